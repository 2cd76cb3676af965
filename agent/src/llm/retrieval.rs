//! `retrieval`: searches in vector stores.
//!
//! Owns what a search asked for and how many results came, for the APIs of Pinecone, Qdrant, Weaviate, Milvus, Chroma,
//! Elasticsearch and OpenSearch (each vendor's public API reference), over REST and, where they have it, gRPC. Vectors and documents are read past. How long the
//! store says that it searched is among the times that servers report.
//!
//! To add a store: a variant of [`Store`], its arms in `request_value` and `result`, and its paths in `registry/stores.rs`.

use super::{
    api::{Draft, Failure, WireApi},
    grpc::Method,
    openai::error::ErrorReader,
    value,
};
use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};

/// What a search in a vector store was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetrievalFacts {
    /// `gen_ai.data_source.id`: collection, index, namespace or class that was searched.
    pub data_source: Option<String>,
    /// What the store calls the operation, `search` or `query` for example.
    pub operation: &'static str,
    /// Most results that were asked for, of each query.
    pub top_k: Option<u64>,
    /// Results that came, of all queries together.
    pub result_count: Option<u64>,
}

/// Whose API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// docs.pinecone.io
    Pinecone,
    /// api.qdrant.tech
    Qdrant,
    /// docs.weaviate.io
    Weaviate,
    /// milvus.io
    Milvus,
    /// docs.trychroma.com
    Chroma,
    /// elastic.co and opensearch.org
    Elastic,
}

/// Reads one search.
#[derive(Debug)]
pub(crate) struct Retrieval {
    store: Store,
    facts: RetrievalFacts,
    has_query: bool,
    /// The query has OpenSearch's form.
    is_opensearch: bool,
    /// Elements of the list of results.
    outer: u64,
    /// Elements of lists in it: several queries, or results in groups.
    inner: u64,
    /// The two members that together are the mark of an answer.
    marks: [bool; 2],
    error: ErrorReader,
    grpc: Option<Method>,
    /// The parameter that is being read is the number of results (Milvus over gRPC has them as texts).
    is_limit: bool,
    /// The answer does not tell how many results it has.
    uncounted: bool,
}

impl Retrieval {
    /// A search of which nothing has been read. `collection` is what the path names.
    pub fn new(store: Store, operation: &'static str, collection: Option<String>) -> Self {
        Self {
            store,
            facts: RetrievalFacts { data_source: collection, operation, ..RetrievalFacts::default() },
            has_query: false,
            is_opensearch: false,
            outer: 0,
            inner: 0,
            marks: [false; 2],
            error: ErrorReader::default(),
            grpc: None,
            is_limit: false,
            uncounted: false,
        }
    }

    /// A search over gRPC of which nothing has been read.
    pub fn over_grpc(store: Store, operation: &'static str, method: Method) -> Self {
        let uncounted = store == Store::Milvus;
        Self { grpc: Some(method), uncounted, ..Self::new(store, operation, None) }
    }

    fn top_k(&mut self, token: Token<'_>) {
        self.facts.top_k = value::count(token).or(self.facts.top_k);
    }

    /// One of Milvus's parameters over gRPC, whose values are texts.
    fn parameter(&mut self, key: &str, token: Token<'_>) {
        let Token::String { text, .. } = token else { return };
        match key {
            "key" => self.is_limit = matches!(text, "topk" | "limit"),
            "value" if self.is_limit => self.facts.top_k = text.parse().ok(),
            _ => {}
        }
    }

    fn elastic_request(&mut self, path: &[Step<'_>], token: Token<'_>) {
        match path {
            [Key("size")] => self.facts.top_k = self.facts.top_k.or(value::count(token)),
            // The number of neighbours says more than the size of the page.
            [.., Key("knn"), Key("k")] | [.., Key("knn"), Key(_) | Index(_), Key("k")] => self.top_k(token),
            // The field is a member here and a value there.
            [Key("query"), .., Key("knn"), Key(_), Key("vector")] => self.is_opensearch = true,
            _ => {}
        }
        self.has_query |= path.iter().any(|step| matches!(step, Key("knn" | "neural" | "sparse_vector" | "semantic")));
    }

    /// The query is a GraphQL text, of which the beginning is at hand.
    fn weaviate_request(&mut self, token: Token<'_>) {
        let Token::String { text, .. } = token else { return };
        let operators = ["nearVector", "nearText", "nearObject", "nearImage", "hybrid", "bm25"];
        self.has_query |= text.contains("Get") && operators.iter().any(|operator| text.contains(operator));
        let limit = text.split_once("limit:").map(|(_, rest)| rest.trim_start());
        let digits = limit.map(|rest| rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]));
        self.facts.top_k = digits.and_then(|digits| digits.parse().ok()).or(self.facts.top_k);
    }

    /// One value of the list of results or beside it.
    fn result(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let (outer, inner) = (&mut self.outer, &mut self.inner);
        let [first, second] = &mut self.marks;
        let is_end = matches!(token, Token::ObjectEnd | Token::ArrayEnd);
        match (self.store, path) {
            (Store::Pinecone, [Key("matches")] | [Key("result"), Key("hits")]) => *first = true,
            (Store::Pinecone, [Key("usage" | "namespace")]) => *second = true,
            (Store::Pinecone, [Key("matches"), Index(_)] | [Key("result"), Key("hits"), Index(_)]) if !is_end => {
                *outer += 1;
            }
            (Store::Qdrant, [Key("result")]) => *first = true,
            (Store::Qdrant | Store::Weaviate, [Key("time")]) => {
                *second = true;
                draft.timings.named("total_time", token);
            }
            (Store::Qdrant, [Key("status"), Key("error")]) => {
                draft.failure.get_or_insert(Failure { kind: None, shaped: true });
            }
            (Store::Qdrant, [Key("result"), Index(_)]) if !is_end => *outer += 1,
            (
                Store::Qdrant,
                [Key("result"), Index(_), Index(_)]
                | [Key("result"), Key("points"), Index(_)]
                | [Key("result"), Index(_), Key("points"), Index(_)]
                | [Key("result"), Key("groups"), Index(_), Key("hits"), Index(_)],
            ) if !is_end => *inner += 1,
            (Store::Milvus, [Key("results"), Key("topks"), Index(_)]) => {
                self.uncounted = false;
                *outer = outer.saturating_add(value::count(token).unwrap_or(0));
            }
            (Store::Milvus, [Key("code")] | [Key("status"), Key("code" | "error_code")]) => {
                *first = true;
                // Where there are two, the second is the newer and says more.
                if let Some(code) = value::integer(token).filter(|&code| !matches!(code, 0 | 200)) {
                    draft.failure = Some(Failure { kind: Some(code.to_string()), shaped: true });
                }
            }
            (Store::Milvus, [Key("data" | "message")]) => *second = true,
            (Store::Milvus, [Key("data"), Index(_)]) if !is_end => *outer += 1,
            (Store::Chroma, [Key("ids"), Index(_)]) => (*first, *second) = (true, true),
            (Store::Chroma, [Key("ids"), Index(_), Index(_)]) if !is_end => *inner += 1,
            (Store::Weaviate, [Key("data"), Key("Get"), Key(class)]) => {
                (*first, *second) = (true, true);
                self.facts.data_source = value::clean(class);
            }
            (Store::Weaviate, [Key("data"), Key("Get"), Key(_), Index(_)] | [Key("results"), Index(_)]) if !is_end => {
                *outer += 1;
            }
            (Store::Weaviate, [Key("groups"), Index(_), Key("objects"), Index(_)]) if !is_end => *inner += 1,
            (Store::Weaviate, [Key("errors")]) => {
                draft.failure.get_or_insert(Failure { kind: None, shaped: false });
            }
            // Every search is answered so: only the request tells that it was one for neighbours.
            (Store::Elastic, [Key("took")]) => draft.timings.named("latencyMs", token),
            (Store::Elastic, [Key("hits"), Key("hits"), Index(_)]) if !is_end => *outer += 1,
            _ => {}
        }
    }
}

impl WireApi for Retrieval {
    fn name(&self) -> &'static str {
        "retrieval"
    }

    fn operation(&self) -> &'static str {
        "retrieval"
    }

    fn default_provider(&self) -> &'static str {
        match self.store {
            Store::Pinecone => "pinecone",
            Store::Qdrant => "qdrant",
            Store::Weaviate => "weaviate",
            Store::Milvus => "milvus",
            Store::Chroma => "chroma",
            Store::Elastic if self.is_opensearch => "opensearch",
            Store::Elastic => "elasticsearch",
        }
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (self.store, path) {
            (Store::Pinecone, [Key("topK")] | [Key("query"), Key("top_k")]) => self.top_k(token),
            (Store::Pinecone, [Key("namespace")]) => self.facts.data_source = value::name(token),
            (
                Store::Pinecone,
                [Key("vector" | "id" | "sparseVector")] | [Key("query"), Key("inputs" | "vector" | "id")],
            ) => self.has_query = true,
            (Store::Qdrant | Store::Weaviate, [Key("collection")]) => self.facts.data_source = value::name(token),
            (Store::Weaviate, [Key("limit")]) => self.top_k(token),
            (Store::Weaviate, [Key("near")]) => self.has_query = true,
            (Store::Milvus, [Key("params"), Index(_), Key(key)]) => self.parameter(key, token),
            (Store::Qdrant, [Key("limit")] | [Key("searches"), Index(0), Key("limit")]) => self.top_k(token),
            (Store::Qdrant, [Key(key)] | [Key("searches"), Index(_), Key(key)]) => {
                self.has_query |= matches!(*key, "vector" | "query" | "positive" | "target" | "context" | "prefetch");
            }
            (Store::Milvus, [Key("limit")]) => self.top_k(token),
            (Store::Milvus, [Key("collectionName")]) => self.facts.data_source = value::name(token),
            (Store::Milvus, [Key("data" | "search" | "filter")]) => self.has_query = true,
            (Store::Chroma, [Key("n_results")]) => self.top_k(token),
            (Store::Chroma, [Key("query_embeddings" | "query_texts")]) => self.has_query = true,
            (Store::Weaviate, [Key("query")]) => self.weaviate_request(token),
            (Store::Elastic, _) => self.elastic_request(path, token),
            _ => {}
        }
        draft.request_hint |= self.has_query;
        draft.request_proof |= self.has_query
            && match self.store {
                Store::Pinecone => self.facts.top_k.is_some(),
                Store::Milvus => self.facts.data_source.is_some(),
                _ => true,
            };
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            // Only now no more can come.
            ([], Token::ObjectEnd) => {
                let nested = self.inner > 0 || matches!(self.store, Store::Chroma);
                let count = if nested { self.inner } else { self.outer };
                self.facts.result_count = (!self.uncounted).then_some(count);
            }
            ([Key("error"), rest @ ..], _) => self.error.value(rest, token),
            _ => self.result(path, token, draft),
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        // No other service has such a method.
        draft.response_proof |= self.marks == [true; 2] || self.grpc.is_some();
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        if draft.failure.is_some() {
            self.facts.result_count = None;
        }
        draft.retrieval = Some(self.facts.clone());
        false
    }

    fn concluded(&mut self, draft: &mut Draft) {
        // A response may not have come.
        draft.retrieval.get_or_insert_with(|| self.facts.clone());
    }

    fn grpc(&self) -> Option<Method> {
        self.grpc
    }

    fn is_finished(&self, body_ended: bool, _draft: &Draft) -> bool {
        body_ended
    }
}
