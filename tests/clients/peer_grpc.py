"""gRPC with bytes for messages: peer_grpc.py serve | peer_grpc.py call HOST:PORT"""

import sys
from concurrent import futures

import grpc


class Peer(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/test.Peer/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/test.Peer/Stream": grpc.unary_stream_rpc_method_handler(self.stream),
            "/test.Peer/Both": grpc.stream_stream_rpc_method_handler(self.both),
            "/test.Peer/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/test.Peer/FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
        }.get(details.method)

    def unary(self, request, context):
        context.set_trailing_metadata((("x-trailer", "kept"),))
        return request.upper()

    def stream(self, request, context):
        for number in range(5):
            yield request + str(number).encode()

    def both(self, requests, context):
        for request in requests:
            yield request.upper()

    def fail(self, request, context):
        context.set_trailing_metadata((("x-why-bin", b"\x00\xff"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today, café")

    def fail_late(self, request, context):
        yield request
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Peer()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination(120)


def fails(call, code, details):
    try:
        call()
    except grpc.RpcError as error:
        assert (error.code(), error.details()) == (code, details), error
        return error
    raise AssertionError(f"{code} was not raised")


def call(target):
    with grpc.insecure_channel(target) as channel:
        answer, finished = channel.unary_unary("/test.Peer/Unary").with_call(b"hello", timeout=10)
        assert answer == b"HELLO", answer
        assert ("x-trailer", "kept") in [tuple(pair) for pair in finished.trailing_metadata()]

        big = channel.unary_unary("/test.Peer/Unary")(b"a" * 1_000_000, timeout=20)
        assert big == b"A" * 1_000_000

        streamed = list(channel.unary_stream("/test.Peer/Stream")(b"n", timeout=10))
        assert streamed == [b"n0", b"n1", b"n2", b"n3", b"n4"], streamed

        both = list(channel.stream_stream("/test.Peer/Both")(iter([b"a", b"b"]), timeout=10))
        assert both == [b"A", b"B"], both

        failed = fails(
            lambda: channel.unary_unary("/test.Peer/Fail")(b"", timeout=10),
            grpc.StatusCode.FAILED_PRECONDITION,
            "not today, café",
        )
        assert ("x-why-bin", b"\x00\xff") in [tuple(pair) for pair in failed.trailing_metadata()]

        late = channel.unary_stream("/test.Peer/FailLate")(b"one", timeout=10)
        assert next(late) == b"one"
        fails(lambda: next(late), grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")

        fails(
            lambda: channel.unary_unary("/test.Peer/Nothing")(b"", timeout=10),
            grpc.StatusCode.UNIMPLEMENTED,
            "Method not found!",
        )
    print("fine")


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2])
