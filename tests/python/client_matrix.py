"""A client of the capture matrix: makes the calls of plan.py through one library.

usage: client_matrix.py LIBRARY BASE_URL [CA]
To add a library: a function of its name that makes the calls of `plan.requests()` on as few connections as the library
lets it, and fails on any answer but 200.
"""

import asyncio
import json
import ssl
import sys

import plan

_, LIBRARY, BASE, *CA = sys.argv
URL = f"{BASE}/chat/completions"
CA = CA[0] if CA else None


def context():
    return ssl.create_default_context(cafile=CA) if CA else False


def requests():
    import requests as library

    with library.Session() as session:
        session.verify = CA
        # REQUESTS_CA_BUNDLE would go before it.
        session.trust_env = False
        for body in plan.requests():
            with session.post(URL, json=body, stream=body["stream"]) as answer:
                answer.raise_for_status()
                for _ in answer.iter_content(1000):
                    pass


def urllib():
    import http.client
    from urllib.parse import urlsplit

    where = urlsplit(URL)
    if CA:
        connection = http.client.HTTPSConnection(where.hostname, where.port, context=context())
    else:
        connection = http.client.HTTPConnection(where.hostname, where.port)
    for body in plan.bodies():
        connection.request("POST", where.path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    connection.close()


def httpx_sync():
    import httpx

    with httpx.Client(verify=context(), timeout=60) as client:
        for body in plan.requests():
            with client.stream("POST", URL, json=body) as answer:
                answer.raise_for_status()
                for _ in answer.iter_bytes():
                    pass


def httpx_async(http2=False):
    import httpx

    async def main():
        async with httpx.AsyncClient(verify=context(), http2=http2, timeout=60) as client:
            for body in plan.requests():
                async with client.stream("POST", URL, json=body) as answer:
                    answer.raise_for_status()
                    assert not http2 or answer.http_version == "HTTP/2"
                    async for _ in answer.aiter_bytes():
                        pass

    asyncio.run(main())


def httpx_http2():
    httpx_async(http2=True)


def aiohttp():
    import aiohttp as library

    async def main():
        async with library.ClientSession(connector=library.TCPConnector(ssl=context())) as session:
            for body in plan.requests():
                async with session.post(URL, json=body) as answer:
                    answer.raise_for_status()
                    async for _ in answer.content.iter_any():
                        pass

    asyncio.run(main())


def openai_sync():
    import httpx
    import openai

    http = httpx.Client(verify=context(), timeout=60)
    with openai.OpenAI(base_url=BASE, api_key="sk-test", http_client=http, max_retries=0) as client:
        for body in plan.requests():
            answer = client.chat.completions.create(**body)
            if body["stream"]:
                for _ in answer:
                    pass


def openai_async():
    import httpx
    import openai

    async def main():
        http = httpx.AsyncClient(verify=context())
        async with openai.AsyncOpenAI(base_url=BASE, api_key="sk-test", http_client=http, max_retries=0) as client:
            for body in plan.requests():
                answer = await client.chat.completions.create(**body)
                if body["stream"]:
                    async for _ in answer:
                        pass

    asyncio.run(main())


globals()[LIBRARY]()
