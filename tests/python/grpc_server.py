#!/usr/bin/env python3
"""A gRPC server that answers as Triton and Qdrant do. A mock of these two: gRPC's own runtime carries it.

usage: grpc_server.py [CERT KEY]

Prints "ready PORT". A collection that is called "missing" is answered NOT_FOUND. Ends with its standard input.

needs: pip install grpcio protobuf
"""

import sys
from concurrent import futures

import grpc

from grpc_messages import CLASSES, QDRANT, TRITON, text

WORDS = ["why", " not", " so"]


def infer(request, context):
    return CLASSES["InferResponse"](
        model_name=request.model_name, id=request.id, outputs=[text("text_output", "".join(WORDS))]
    )


def stream(requests, context):
    for request in requests:
        for word in WORDS:
            part = CLASSES["InferResponse"](
                model_name=request.model_name, id=request.id, outputs=[text("text_output", word)]
            )
            yield CLASSES["StreamResponse"](infer_response=part)


def search(request, context):
    if request.collection_name == "missing":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such collection")
    points = [CLASSES["Point"](score=1 / (n + 1), version=n) for n in range(min(request.limit, 7))]
    return CLASSES["Found"](result=points, time=0.125)


def handler(kind, function, request, response):
    return kind(
        function,
        request_deserializer=CLASSES[request].FromString,
        response_serializer=CLASSES[response].SerializeToString,
    )


METHODS = {
    TRITON + "ModelInfer": handler(grpc.unary_unary_rpc_method_handler, infer, "InferRequest", "InferResponse"),
    TRITON + "ModelStreamInfer": handler(
        grpc.stream_stream_rpc_method_handler, stream, "InferRequest", "StreamResponse"
    ),
    QDRANT + "Search": handler(grpc.unary_unary_rpc_method_handler, search, "Search", "Found"),
}


class Methods(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


def main(files):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([Methods()])
    if files:
        cert, key = (open(file, "rb").read() for file in files)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"ready {port}", flush=True)
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    main(sys.argv[1:])
