//! The docs and the tests speak of one stack.

#[test]
fn the_stack_in_the_docs_is_the_one_that_is_tested() {
    let tested = include_str!("stack.rs");
    let (_, tested) = tested.split_once("// The picture begins here.\n").unwrap();
    let (tested, _) = tested.split_once("// The picture ends here.\n").unwrap();
    let tested = tested.replace("pub(crate) fn", "fn");
    let docs = include_str!("../../docs/placement.md");
    assert!(docs.contains(&tested), "docs/placement.md lacks:\n{tested}");
}
