//! The committed OpenAPI document is what the code says.

#[test]
fn the_committed_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi/tandem.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let current = api::openapi().to_pretty_json().unwrap() + "\n";
    assert!(
        committed == current,
        "run: cargo run -p api --example openapi > docs/openapi/tandem.json"
    );
}
