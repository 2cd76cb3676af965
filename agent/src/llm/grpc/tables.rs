//! The gRPC methods that are read, as tables of the fields that are wanted.
//!
//! Numbers are those of the vendors' `.proto` files: `grpc_service.proto` of Triton (KServe's V2 protocol), `points.proto` of
//! Qdrant, `milvus.proto`, `schema.proto` and `common.proto` of Milvus, `search_get.proto` of Weaviate, `vector_service.proto`
//! of Pinecone. Names are those of the same values in JSON, so that the reader of the REST API takes them.

use super::Method;
use crate::protocol::protobuf::{Field, Kind};

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, repeated: false, kind }
}

const fn list(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, repeated: true, kind }
}

const fn unary(request: &'static [Field], response: &'static [Field]) -> Method {
    Method { request, response, streams: false }
}

/// An element of which only that it is there matters.
const ELEMENT: Kind = Kind::Message(&[]);

// === Triton ===

const CONTENTS: &[Field] = &[
    list(1, "data", Kind::Bool),
    list(2, "data", Kind::Int),
    list(3, "data", Kind::Int),
    list(4, "data", Kind::Int),
    list(5, "data", Kind::Int),
    list(8, "data", Kind::Text),
];
const TENSOR: &[Field] = &[one(1, "name", Kind::Text), one(5, "contents", Kind::Inline(CONTENTS))];
const INFER_REQUEST: &[Field] = &[
    one(1, "model_name", Kind::Text),
    list(5, "inputs", Kind::Message(TENSOR)),
    // The contents of all tensors, in their order, where these have none.
    list(7, "raw", Kind::RawText),
];
const INFER_RESPONSE: &[Field] = &[
    one(1, "model_name", Kind::Text),
    one(3, "id", Kind::Text),
    list(5, "outputs", Kind::Message(TENSOR)),
    list(6, "raw", Kind::RawText),
];
const STREAM_RESPONSE: &[Field] =
    &[one(1, "error", Kind::Text), one(2, "infer_response", Kind::Inline(INFER_RESPONSE))];

pub(crate) const TRITON_INFER: Method = unary(INFER_REQUEST, INFER_RESPONSE);
pub(crate) const TRITON_STREAM: Method = Method { request: INFER_REQUEST, response: STREAM_RESPONSE, streams: true };

// === Qdrant ===

const COLLECTION: Field = one(1, "collection", Kind::Text);
const SEARCH: &[Field] = &[COLLECTION, one(2, "vector", Kind::Presence), one(4, "limit", Kind::Int)];
const QUERY: &[Field] =
    &[COLLECTION, one(2, "prefetch", Kind::Presence), one(3, "query", Kind::Presence), one(8, "limit", Kind::Int)];
const QUERY_GROUPS: &[Field] =
    &[COLLECTION, one(2, "prefetch", Kind::Presence), one(3, "query", Kind::Presence), one(11, "limit", Kind::Int)];
const RECOMMEND: &[Field] =
    &[COLLECTION, one(2, "positive", Kind::Presence), one(5, "limit", Kind::Int), one(17, "positive", Kind::Presence)];
const SEARCHES: &[Field] = &[COLLECTION, list(2, "searches", Kind::Message(SEARCH))];
const QUERIES: &[Field] = &[COLLECTION, list(2, "searches", Kind::Message(QUERY))];
const POINTS: &[Field] = &[list(1, "result", ELEMENT), one(2, "time", Kind::Float)];
const BATCH: &[Field] = &[list(1, "points", ELEMENT)];
const BATCHES: &[Field] = &[list(1, "result", Kind::Message(BATCH)), one(2, "time", Kind::Float)];
const GROUP: &[Field] = &[list(2, "hits", ELEMENT)];
const GROUP_LIST: &[Field] = &[list(1, "groups", Kind::Message(GROUP))];
const GROUPS: &[Field] = &[one(1, "result", Kind::Message(GROUP_LIST)), one(2, "time", Kind::Float)];

pub(crate) const QDRANT_SEARCH: Method = unary(SEARCH, POINTS);
pub(crate) const QDRANT_SEARCH_BATCH: Method = unary(SEARCHES, BATCHES);
pub(crate) const QDRANT_SEARCH_GROUPS: Method = unary(SEARCH, GROUPS);
pub(crate) const QDRANT_QUERY: Method = unary(QUERY, POINTS);
pub(crate) const QDRANT_QUERY_BATCH: Method = unary(QUERIES, BATCHES);
pub(crate) const QDRANT_QUERY_GROUPS: Method = unary(QUERY_GROUPS, GROUPS);
pub(crate) const QDRANT_RECOMMEND: Method = unary(RECOMMEND, POINTS);

// === Milvus ===

const PAIR: &[Field] = &[one(1, "key", Kind::Text), one(2, "value", Kind::Text)];
const STATUS_FIELDS: &[Field] = &[one(1, "error_code", Kind::Int), one(3, "code", Kind::Int)];
const STATUS: Field = one(1, "status", Kind::Message(STATUS_FIELDS));
const MILVUS_SEARCH_REQUEST: &[Field] = &[
    one(3, "collectionName", Kind::Text),
    one(6, "data", Kind::Presence),
    list(9, "params", Kind::Message(PAIR)),
    // By the keys of stored entities instead of a vector.
    one(22, "data", Kind::Presence),
];
const MILVUS_HYBRID_REQUEST: &[Field] =
    &[one(3, "collectionName", Kind::Text), one(5, "search", Kind::Presence), list(6, "params", Kind::Message(PAIR))];
const MILVUS_QUERY_REQUEST: &[Field] =
    &[one(3, "collectionName", Kind::Text), one(4, "filter", Kind::Presence), list(9, "params", Kind::Message(PAIR))];
const MILVUS_RESULT_DATA: &[Field] = &[list(6, "topks", Kind::Int)];
const MILVUS_RESULTS: &[Field] = &[STATUS, one(2, "results", Kind::Message(MILVUS_RESULT_DATA))];
const MILVUS_STATUS: &[Field] = &[STATUS];

pub(crate) const MILVUS_SEARCH: Method = unary(MILVUS_SEARCH_REQUEST, MILVUS_RESULTS);
pub(crate) const MILVUS_HYBRID: Method = unary(MILVUS_HYBRID_REQUEST, MILVUS_RESULTS);
pub(crate) const MILVUS_QUERY: Method = unary(MILVUS_QUERY_REQUEST, MILVUS_STATUS);

// === Weaviate ===

const WEAVIATE_REQUEST: &[Field] = &[
    COLLECTION,
    one(30, "limit", Kind::Int),
    one(41, "near", Kind::Presence),
    one(42, "near", Kind::Presence),
    one(43, "near", Kind::Presence),
    one(44, "near", Kind::Presence),
    one(45, "near", Kind::Presence),
    one(46, "near", Kind::Presence),
];
const WEAVIATE_GROUP: &[Field] = &[list(5, "objects", ELEMENT)];
const WEAVIATE_RESPONSE: &[Field] =
    &[one(1, "time", Kind::Float), list(2, "results", ELEMENT), list(4, "groups", Kind::Message(WEAVIATE_GROUP))];

pub(crate) const WEAVIATE_SEARCH: Method = unary(WEAVIATE_REQUEST, WEAVIATE_RESPONSE);

// === Pinecone ===

const PINECONE_REQUEST: &[Field] = &[
    one(1, "namespace", Kind::Text),
    one(2, "topK", Kind::Int),
    one(7, "vector", Kind::Presence),
    one(8, "id", Kind::Presence),
    one(9, "sparseVector", Kind::Presence),
];
const PINECONE_RESPONSE: &[Field] = &[list(2, "matches", ELEMENT), one(3, "namespace", Kind::Text)];

pub(crate) const PINECONE_QUERY: Method = unary(PINECONE_REQUEST, PINECONE_RESPONSE);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::protobuf::MAX_FIELDS;

    #[test]
    fn no_table_has_more_fields_than_are_counted() {
        fn check(fields: &[Field]) {
            assert!(fields.len() <= MAX_FIELDS, "{fields:?}");
            for field in fields {
                if let Kind::Message(fields) | Kind::Inline(fields) = field.kind {
                    check(fields);
                }
            }
        }
        for method in
            [TRITON_STREAM, QDRANT_QUERY_BATCH, QDRANT_SEARCH_GROUPS, MILVUS_SEARCH, WEAVIATE_SEARCH, PINECONE_QUERY]
        {
            check(method.request);
            check(method.response);
        }
    }
}
