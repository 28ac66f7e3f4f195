import os

import httpx

from story import story

with httpx.Client(base_url=os.environ["CRYPTOPAY_URL"]) as client:

    def send(method, path, headers, body):
        response = client.request(method, path, headers=headers, json=body)
        return response.status_code, response.headers, response.json()

    story(send)
