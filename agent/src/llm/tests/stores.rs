//! Searches in vector stores. The bodies have the form of the vendors' published examples.

use super::*;

fn searched(path: &'static str, request: Value, response: Value) -> (Outcome, RetrievalFacts) {
    let outcome = plain(path, request, response);
    let retrieval = outcome.facts.retrieval.clone().expect("a search");
    assert_eq!((outcome.facts.api, outcome.facts.operation), ("retrieval", "retrieval"));
    assert_eq!((outcome.facts.request.model.as_ref(), outcome.finished), (None, outcome.facts.error.is_none()));
    (outcome, retrieval)
}

fn facts(source: Option<&str>, operation: &'static str, top_k: Option<u64>, count: Option<u64>) -> RetrievalFacts {
    RetrievalFacts { data_source: source.map(str::to_owned), operation, top_k, result_count: count }
}

#[test]
fn pinecone_query_and_search() {
    let hit = |id: &str| json!({"id": id, "score": 0.5, "values": [], "metadata": {"genre": "x"}});
    let (outcome, retrieval) = searched(
        "/query",
        json!({"vector": [0.25, 0.5], "topK": 3, "namespace": "docs", "includeMetadata": true}),
        json!({"matches": [hit("a"), hit("b")], "namespace": "docs", "usage": {"readUnits": 6}}),
    );
    assert_eq!((outcome.proof, outcome.facts.provider), (Proof::Request, "pinecone"));
    assert_eq!(retrieval, facts(Some("docs"), "query", Some(3), Some(2)));
    let (_, retrieval) = searched(
        "/records/namespaces/my%20docs/search",
        json!({"query": {"inputs": {"text": "q"}, "top_k": 4}}),
        json!({"result": {"hits": [{"_id": "a", "_score": 0.5, "fields": {}}]}, "usage": {"read_units": 1}}),
    );
    assert_eq!(retrieval, facts(Some("my docs"), "search", Some(4), Some(1)));
}

#[test]
fn other_programs_have_a_path_query() {
    let of = |request, response| plain("/query", request, response).proof;
    assert_eq!(of(json!({"query": "select 1"}), json!({"matches": []})), Proof::Refuted);
    assert_eq!(of(json!({"id": 7}), json!({"rows": []})), Proof::Refuted);
}

#[test]
fn qdrant_results_flat_nested_and_grouped() {
    let point = json!({"id": 1, "version": 3, "score": 0.5, "payload": {"a": [1, 2]}, "vector": [0.5, 0.25]});
    let answer = |result: Value| json!({"result": result, "status": "ok", "time": 0.125});
    let (outcome, retrieval) = searched(
        "/collections/docs/points/search",
        json!({"vector": [0.5], "limit": 10, "with_payload": true}),
        answer(json!([point, point])),
    );
    assert_eq!((outcome.facts.provider, outcome.facts.timings.total), ("qdrant", Some(0.125)));
    assert_eq!(retrieval, facts(Some("docs"), "search", Some(10), Some(2)));
    let (_, retrieval) = searched(
        "/collections/docs/points/query",
        json!({"query": [0.5], "limit": 5, "using": "dense"}),
        answer(json!({"points": [point, point, point]})),
    );
    assert_eq!(retrieval, facts(Some("docs"), "query", Some(5), Some(3)));
    let (_, retrieval) = searched(
        "/collections/docs/points/query/batch",
        json!({"searches": [{"query": [0.5], "limit": 2}, {"query": [0.5], "limit": 2}]}),
        answer(json!([{"points": [point]}, {"points": [point, point]}])),
    );
    assert_eq!(retrieval, facts(Some("docs"), "query", Some(2), Some(3)));
    let groups = json!({"groups": [{"id": 1, "hits": [point, point]}, {"id": 2, "hits": [point]}]});
    let (_, retrieval) = searched(
        "/collections/docs/points/search/groups",
        json!({"vector": [0.5], "limit": 2, "group_by": "doc"}),
        answer(groups),
    );
    assert_eq!(retrieval.result_count, Some(3));
    let (outcome, retrieval) = searched(
        "/collections/docs/points/query",
        json!({"query": [0.5]}),
        json!({"status": {"error": "Wrong input"}, "time": 0.1, "result": null}),
    );
    assert_eq!((outcome.facts.error.as_deref(), retrieval.result_count), (Some("_OTHER"), None));
}

#[test]
fn nothing_found_is_zero_and_not_seen_is_unknown() {
    let request = json!({"vector": [0.5], "limit": 10});
    let path = "/collections/docs/points/search";
    let (_, retrieval) = searched(path, request.clone(), json!({"result": [], "status": "ok", "time": 0.5}));
    assert_eq!(retrieval.result_count, Some(0));
    let response = r#"{"result":[{"id":1},{"id"#.to_owned();
    let cut = Exchange { path, request: request.to_string(), response, ..Exchange::default() }.run();
    assert_eq!(cut.facts.retrieval, Some(facts(Some("docs"), "search", Some(10), None)));
    let none = Exchange { path, request: request.to_string(), ..Exchange::default() }.run();
    assert_eq!(none.facts.retrieval, Some(facts(Some("docs"), "search", Some(10), None)));
}

#[test]
fn milvus_search_and_error_under_200() {
    let request =
        json!({"collectionName": "docs", "data": [[0.5]], "annsField": "v", "limit": 3, "outputFields": ["*"]});
    let path = "/v2/vectordb/entities/search";
    let (outcome, retrieval) =
        searched(path, request.clone(), json!({"code": 0, "cost": 0, "data": [{"id": 1, "distance": 0.5}, {"id": 2}]}));
    assert_eq!((outcome.facts.provider, outcome.facts.error), ("milvus", None));
    assert_eq!(retrieval, facts(Some("docs"), "search", Some(3), Some(2)));
    let (outcome, retrieval) = searched(path, request, json!({"code": 1100, "message": "invalid parameter"}));
    assert_eq!((outcome.facts.error.as_deref(), retrieval.result_count), (Some("1100"), None));
}

#[test]
fn chroma_query() {
    let (outcome, retrieval) = searched(
        "/api/v2/tenants/t/databases/d/collections/6d0c/query",
        json!({"query_embeddings": [[0.5], [0.25]], "n_results": 2, "include": ["documents"]}),
        json!({"ids": [["a", "b"], ["c"]], "distances": [[0.5, 0.25], [1]], "documents": null}),
    );
    assert_eq!(outcome.facts.provider, "chroma");
    assert_eq!(retrieval, facts(Some("6d0c"), "query", Some(2), Some(3)));
}

#[test]
fn weaviate_get() {
    let (outcome, retrieval) = searched(
        "/v1/graphql",
        json!({"query": "{ Get { Article(limit: 2, nearText: {concepts: [\"q\"]}) { title } } }"}),
        json!({"data": {"Get": {"Article": [{"title": "a"}, {"title": "b"}]}}}),
    );
    assert_eq!((outcome.proof, outcome.facts.provider), (Proof::Request, "weaviate"));
    assert_eq!(retrieval, facts(Some("Article"), "get", Some(2), Some(2)));
    let other = plain("/v1/graphql", json!({"query": "{ user(id: 1) { name } }"}), json!({"data": {"user": null}}));
    assert_eq!(other.proof, Proof::Refuted, "any GraphQL server has such a path");
}

#[test]
fn elasticsearch_only_with_neighbours() {
    let hits = json!({"took": 5, "timed_out": false, "_shards": {"total": 1}, "hits": {"total": {"value": 2}, "max_score": 1.0,
        "hits": [{"_index": "docs", "_id": "1", "_score": 1.0, "_source": {"a": 1}}, {"_index": "docs", "_id": "2"}]}});
    let (outcome, retrieval) = searched(
        "/docs/_search",
        json!({"knn": {"field": "v", "query_vector": [0.5], "k": 10, "num_candidates": 50}, "size": 2}),
        hits.clone(),
    );
    assert_eq!((outcome.facts.provider, outcome.facts.timings.total), ("elasticsearch", Some(0.005)));
    assert_eq!(retrieval, facts(Some("docs"), "search", Some(10), Some(2)));
    let (outcome, retrieval) = searched(
        "/docs/_search",
        json!({"size": 3, "query": {"knn": {"my_vector": {"vector": [0.5], "k": 4}}}}),
        hits.clone(),
    );
    assert_eq!((outcome.facts.provider, retrieval.top_k), ("opensearch", Some(4)));
    let text = plain("/docs/_search", json!({"query": {"match": {"a": "b"}}}), hits);
    assert_eq!(text.proof, Proof::Refuted);
    let failed = json!({"error": {"root_cause": [], "type": "index_not_found_exception", "reason": "no such index"}, "status": 404});
    let (outcome, _) = searched("/docs/_search", json!({"knn": {"k": 1}}), failed);
    assert_eq!(outcome.facts.error.as_deref(), Some("index_not_found_exception"));
}
