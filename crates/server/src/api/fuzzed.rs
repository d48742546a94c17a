//! What a fuzzer feeds: query strings, as each route reads them.

use http::HeaderMap;
use runstone_store::Order;

use super::params::Params;
use super::{logs, metrics, runs, target_runs, values};

/// Reads a query string as every route does that has parameters.
pub fn parameters(query: &str) {
    let params = || Params::parse(Some(query), 1_800_000_000_000_000);
    let _ = params().and_then(|params| logs::read_query(params, Order::Newest, &HeaderMap::new()));
    let _ = params().and_then(|params| runs::read_query(params, 7));
    let _ = params().and_then(|params| target_runs::read_query(params, 7));
    let _ = params().and_then(metrics::read_query);
    let _ = params().and_then(values::read_query);
}

#[test]
fn what_was_fed_once_is_read_or_refused() {
    let corpus = std::fs::read_dir("../../fuzz/corpus/parameters").unwrap();
    let fed: Vec<String> = corpus.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(fed.len() >= 5);
    fed.iter().for_each(|query| parameters(query));
}
