"""Messages of Triton and Qdrant, with the numbers of their vendors' .proto files, and only the fields that are used.

Shared by grpc_server.py and grpc_client.py. The classes are made by the protobuf runtime, so that what travels is written by
it and not by anything of this project.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

STRING, BYTES, UINT64, INT64, FLOAT, DOUBLE, UINT32 = 9, 12, 4, 3, 2, 1, 13
OPTIONAL, REPEATED = 1, 3

TRITON = "/inference.GRPCInferenceService/"
QDRANT = "/qdrant.Points/"

# Message: fields as (name, number, label, type or message).
MESSAGES = {
    "Contents": [("bytes_contents", 8, REPEATED, BYTES)],
    "Tensor": [
        ("name", 1, OPTIONAL, STRING),
        ("datatype", 2, OPTIONAL, STRING),
        ("shape", 3, REPEATED, INT64),
        ("contents", 5, OPTIONAL, "Contents"),
    ],
    "InferRequest": [
        ("model_name", 1, OPTIONAL, STRING),
        ("id", 3, OPTIONAL, STRING),
        ("inputs", 5, REPEATED, "Tensor"),
    ],
    "InferResponse": [
        ("model_name", 1, OPTIONAL, STRING),
        ("id", 3, OPTIONAL, STRING),
        ("outputs", 5, REPEATED, "Tensor"),
    ],
    "StreamResponse": [("error_message", 1, OPTIONAL, STRING), ("infer_response", 2, OPTIONAL, "InferResponse")],
    "Search": [
        ("collection_name", 1, OPTIONAL, STRING),
        ("vector", 2, REPEATED, FLOAT),
        ("limit", 4, OPTIONAL, UINT64),
    ],
    "Point": [("score", 3, OPTIONAL, FLOAT), ("version", 5, OPTIONAL, UINT64)],
    "Found": [("result", 1, REPEATED, "Point"), ("time", 2, OPTIONAL, DOUBLE)],
}


def _classes():
    file = descriptor_pb2.FileDescriptorProto(name="grpc_messages.proto", package="m", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = 11, f".m.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"m.{name}")) for name in MESSAGES}


CLASSES = _classes()


def text(name, value):
    """A tensor of one text."""
    tensor = CLASSES["Tensor"](name=name, datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(value.encode())
    return tensor
