//! The paths of vector stores.
//!
//! Owns rows of the registry's table whose wildcard names a collection, nothing else.

use super::{
    registry::Route,
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
];
