//! The paths of vector stores.
//!
//! Owns rows of the registry's table whose wildcard names a collection, nothing else.

use super::Route;
use crate::llm::{
    grpc::tables,
    retrieval::{Retrieval, Store},
};

/// A row for one operation of a store.
macro_rules! row {
    ($store:ident, $operation:literal, $($segment:literal)/+) => {
        Route {
            suffix: &[$($segment),+],
            open: &[|matched| Box::new(Retrieval::new(Store::$store, $operation, matched.collection.clone()))],
        }
    };
}

/// A row for one method of a store's gRPC service.
macro_rules! method {
    ($store:ident, $operation:literal, $service:literal / $name:literal, $method:ident) => {
        Route {
            suffix: &[$service, $name],
            open: &[|_| Box::new(Retrieval::over_grpc(Store::$store, $operation, tables::$method))],
        }
    };
}

pub(crate) const ROUTES: &[Route] = &[
    row!(Pinecone, "query", "query"),
    row!(Pinecone, "search", "records" / "namespaces" / "*" / "search"),
    row!(Qdrant, "search", "collections" / "*" / "points" / "search"),
    row!(Qdrant, "search", "collections" / "*" / "points" / "search" / "batch"),
    row!(Qdrant, "search", "collections" / "*" / "points" / "search" / "groups"),
    row!(Qdrant, "query", "collections" / "*" / "points" / "query"),
    row!(Qdrant, "query", "collections" / "*" / "points" / "query" / "batch"),
    row!(Qdrant, "query", "collections" / "*" / "points" / "query" / "groups"),
    row!(Qdrant, "recommend", "collections" / "*" / "points" / "recommend"),
    row!(Qdrant, "recommend", "collections" / "*" / "points" / "recommend" / "batch"),
    row!(Qdrant, "recommend", "collections" / "*" / "points" / "recommend" / "groups"),
    row!(Qdrant, "discover", "collections" / "*" / "points" / "discover"),
    row!(Qdrant, "discover", "collections" / "*" / "points" / "discover" / "batch"),
    row!(Weaviate, "get", "v1" / "graphql"),
    row!(Milvus, "search", "v2" / "vectordb" / "entities" / "search"),
    row!(Milvus, "query", "v2" / "vectordb" / "entities" / "query"),
    row!(Milvus, "hybrid_search", "v2" / "vectordb" / "entities" / "hybrid_search"),
    row!(Milvus, "hybrid_search", "v2" / "vectordb" / "entities" / "advanced_search"),
    row!(Chroma, "query", "collections" / "*" / "query"),
    row!(Elastic, "search", "*" / "_search"),
    row!(Elastic, "search", "_search"),
    method!(Pinecone, "query", "VectorService" / "Query", PINECONE_QUERY),
    method!(Qdrant, "search", "qdrant.Points" / "Search", QDRANT_SEARCH),
    method!(Qdrant, "search", "qdrant.Points" / "SearchBatch", QDRANT_SEARCH_BATCH),
    method!(Qdrant, "search", "qdrant.Points" / "SearchGroups", QDRANT_SEARCH_GROUPS),
    method!(Qdrant, "query", "qdrant.Points" / "Query", QDRANT_QUERY),
    method!(Qdrant, "query", "qdrant.Points" / "QueryBatch", QDRANT_QUERY_BATCH),
    method!(Qdrant, "query", "qdrant.Points" / "QueryGroups", QDRANT_QUERY_GROUPS),
    method!(Qdrant, "recommend", "qdrant.Points" / "Recommend", QDRANT_RECOMMEND),
    method!(Weaviate, "search", "weaviate.v1.Weaviate" / "Search", WEAVIATE_SEARCH),
    method!(Milvus, "search", "milvus.proto.milvus.MilvusService" / "Search", MILVUS_SEARCH),
    method!(Milvus, "hybrid_search", "milvus.proto.milvus.MilvusService" / "HybridSearch", MILVUS_HYBRID),
    method!(Milvus, "query", "milvus.proto.milvus.MilvusService" / "Query", MILVUS_QUERY),
];
