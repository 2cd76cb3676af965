#!/usr/bin/env python3
"""Calls a gRPC server as clients of Triton and Qdrant do, and says of each call what a span should say.

usage: grpc_client.py PORT [CA]

    PORT  of grpc_server.py on 127.0.0.1
    CA    certificates to trust; without it there is no TLS

One JSON object per call on standard output: {"call": METHOD, "attributes": {…}}; null stands for an attribute that must be
absent.

needs: pip install grpcio protobuf
"""

import json
import sys

import grpc

from grpc_messages import CLASSES, QDRANT, TRITON, text


def tell(call, attributes):
    print(json.dumps({"call": call, "attributes": attributes}), flush=True)


def channel_to(port, ca):
    target = f"localhost:{port}"
    if ca is None:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(open(ca, "rb").read()))


def infer(channel, compression):
    call = channel.unary_unary(
        TRITON + "ModelInfer",
        request_serializer=CLASSES["InferRequest"].SerializeToString,
        response_deserializer=CLASSES["InferResponse"].FromString,
    )
    id = f"infer-{compression.name}"
    # Long enough for gRPC's runtime to think compression worth it.
    request = CLASSES["InferRequest"](model_name="ensemble", id=id, inputs=[text("text_input", "why? " * 400)])
    answer = call(request, compression=compression)
    tell("ModelInfer", {"gen_ai.request.model": "ensemble", "gen_ai.response.id": answer.id, "error.type": None})


def stream(channel):
    call = channel.stream_stream(
        TRITON + "ModelStreamInfer",
        request_serializer=CLASSES["InferRequest"].SerializeToString,
        response_deserializer=CLASSES["StreamResponse"].FromString,
    )
    request = CLASSES["InferRequest"](model_name="vllm", id="stream", inputs=[text("text_input", "why?")])
    parts = [part.infer_response for part in call(iter([request]))]
    tell(
        "ModelStreamInfer",
        {"gen_ai.request.model": "vllm", "gen_ai.response.id": parts[0].id, "inferscope.chunk.count": len(parts)},
    )


def search(channel, collection, limit):
    call = channel.unary_unary(
        QDRANT + "Search",
        request_serializer=CLASSES["Search"].SerializeToString,
        response_deserializer=CLASSES["Found"].FromString,
    )
    request = CLASSES["Search"](collection_name=collection, vector=[0.5] * 768, limit=limit)
    count, error = None, None
    try:
        count = len(call(request).result)
    except grpc.RpcError as failed:
        error = failed.code().name
    tell(
        "Search",
        {
            "gen_ai.data_source.id": collection,
            "inferscope.retrieval.top_k": limit,
            "error.type": error,
            "inferscope.retrieval.result_count": count,
        },
    )


def main(port, ca=None):
    with channel_to(port, ca) as channel:
        infer(channel, grpc.Compression.NoCompression)
        infer(channel, grpc.Compression.Gzip)
        stream(channel)
        search(channel, "docs", 5)
        search(channel, "large", 50)
        search(channel, "missing", 3)


if __name__ == "__main__":
    main(*sys.argv[1:])
