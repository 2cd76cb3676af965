#!/usr/bin/env python3
"""An OTLP/gRPC receiver for the end-to-end test, independent of inferscope's own code.

Owns the other reading of what inferscope exports: it decodes with the protocol's published Python classes and writes
every span as one JSON line with the fields of inferscope's JSON lines, so that the two can be compared. It stores
nothing else and knows nothing of what the attributes mean.

usage: otlp_receiver.py PORT FILE

    PORT           to listen on, 127.0.0.1 only; 0 takes a free one
    FILE           spans, one JSON object a line, flushed before the request is answered
    FILE.raw       the bytes of every request, one after the other, to search for what must not be there
    FILE.resource  resource attributes and scope of every request, one JSON object a line

Prints "ready PORT" when it listens; SIGTERM or SIGINT ends it with status 0. A request that OTLP forbids (an id of
another length or of zeros, an attribute twice) is answered INVALID_ARGUMENT.

needs: pip install grpcio opentelemetry-proto
"""

import json
import signal
import sys
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"

KINDS = {Span.SPAN_KIND_CLIENT: "client", Span.SPAN_KIND_SERVER: "server"}
STATUSES = {Status.STATUS_CODE_UNSET: "unset", Status.STATUS_CODE_OK: "ok", Status.STATUS_CODE_ERROR: "error"}


def identity(value, length, what):
    if len(value) != length or not any(value):
        raise ValueError(f"{what} is {value.hex()!r}")
    return value.hex()


def plain(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return flat(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind) if kind else None


def flat(attributes):
    result = {}
    for attribute in attributes:
        if attribute.key in result:
            raise ValueError(f"attribute {attribute.key!r} occurs twice")
        result[attribute.key] = plain(attribute.value)
    return result


def line(span):
    return {
        "schema": 1,
        "trace_id": identity(span.trace_id, 16, "trace_id"),
        "span_id": identity(span.span_id, 8, "span_id"),
        "parent_span_id": identity(span.parent_span_id, 8, "parent_span_id") if span.parent_span_id else None,
        "name": span.name,
        "kind": KINDS.get(span.kind, f"unexpected kind {span.kind}"),
        "start_time_unix_nano": span.start_time_unix_nano,
        "end_time_unix_nano": span.end_time_unix_nano,
        "status": STATUSES[span.status.code],
        "attributes": flat(span.attributes),
        "events": [
            {"name": event.name, "time_unix_nano": event.time_unix_nano, "attributes": flat(event.attributes)}
            for event in span.events
        ],
    }


class Receiver:
    def __init__(self, path):
        self.spans = open(path, "a", encoding="utf-8")
        self.resources = open(path + ".resource", "a", encoding="utf-8")
        self.raw = open(path + ".raw", "ab")
        self.lock = threading.Lock()

    def export(self, request, context):
        with self.lock:
            # Before anything can fail: what cannot be decoded is searched all the same.
            self.raw.write(request)
            self.raw.flush()
            try:
                resources, spans = self.decode(request)
            except Exception as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            for file, objects in ((self.resources, resources), (self.spans, spans)):
                file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in objects)
                file.flush()
        return ExportTraceServiceResponse().SerializeToString()

    def decode(self, request):
        resources, spans = [], []
        for resource_spans in ExportTraceServiceRequest.FromString(request).resource_spans:
            for scope_spans in resource_spans.scope_spans:
                scope = {"name": scope_spans.scope.name, "version": scope_spans.scope.version}
                resources.append({"resource": flat(resource_spans.resource.attributes), "scope": scope})
                spans.extend(line(span) for span in scope_spans.spans)
        return resources, spans


def main():
    if len(sys.argv) != 3 or not sys.argv[1].isdigit():
        sys.exit("usage: otlp_receiver.py PORT FILE")
    receiver = Receiver(sys.argv[2])
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    # Without a deserialiser the handler gets the bytes as they came.
    handler = grpc.unary_unary_rpc_method_handler(receiver.export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),))
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")

    # Before the line that lets others send one.
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    print(f"ready {port}", flush=True)
    stop.wait()
    server.stop(grace=2).wait()


if __name__ == "__main__":
    main()
