//! Every seed of the fuzz targets, and with them every input that one of them found wanting.

use std::path::Path;

use crate::check;

fn each(target: &str, check: impl Fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let seeds: Vec<_> = std::fs::read_dir(seeds).unwrap().collect();
    assert!(!seeds.is_empty());
    for seed in seeds {
        let path = seed.unwrap().path();
        println!("{}", path.display());
        check(&std::fs::read(path).unwrap());
    }
}

#[test]
fn the_key_seeds_hold() {
    each("key", |text| check::key::check(&check::key::parse(text)));
}

#[test]
fn the_caller_seeds_hold() {
    each("caller", |text| {
        let (one, other) = check::caller::parse(text);
        check::caller::check(&one, &other);
    });
}

#[test]
fn the_seeds_of_what_is_kept_hold() {
    each("keep", |text| {
        let (status, fields) = check::keep::parse(text).unwrap();
        check::keep::check(status, &fields);
    });
}

#[test]
fn the_record_seeds_hold() {
    each("record", check::record::check_bytes);
}

#[test]
fn the_request_seeds_hold() {
    each("request", |text| {
        check::request::check(&check::input::parse(text).unwrap());
    });
}
