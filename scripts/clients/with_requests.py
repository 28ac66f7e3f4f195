import os

import requests

from story import story


def send(method, path, headers, body):
    response = requests.request(method, os.environ["CRYPTOPAY_URL"] + path, headers=headers, json=body)
    return response.status_code, response.headers, response.json()


story(send)
