import json
import os
import urllib.error
import urllib.request

from story import story


def send(method, path, headers, body):
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        headers = {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["CRYPTOPAY_URL"] + path, data=data, headers=headers, method=method)
    try:
        response = urllib.request.urlopen(request)
    except urllib.error.HTTPError as refused:
        response = refused
    with response:
        return response.status, response.headers, json.load(response)


story(send)
