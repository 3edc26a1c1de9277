"""An echo over WebSockets: peer_websockets.py serve | peer_websockets.py call HOST:PORT"""

import asyncio
import sys

import websockets


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def serve():
    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.sleep(120)


async def call(target):
    async with websockets.connect(f"ws://{target}/echo", max_size=None) as connection:
        for message in ["hello", b"\x00\xff", "é" * 10_000, b"x" * 1_000_000]:
            await connection.send(message)
            assert await asyncio.wait_for(connection.recv(), 10) == message
        await asyncio.wait_for(await connection.ping(), 10)
    assert connection.close_code == 1000, connection.close_code
    print("fine")


asyncio.run(serve() if sys.argv[1] == "serve" else call(sys.argv[2]))
