//! Runs the bench and fails if a count has grown by more than 3 % beyond what is committed.
//!
//! `cargo run` checks; `cargo run -- --update` writes the counts of this run to `counts.txt`.
//!
//! Instructions in the C library are not counted: what its allocator does depends on the state of the heap,
//! and makes up to a tenth of difference between two runs. `tests/allocations.rs` counts how often it is
//! called.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // What an earlier run has left would be read as if it were of this one.
    let target = Path::new(HERE).join("target");
    let _ = fs::remove_dir_all(target.join("gungraun"));
    let status = Command::new("cargo")
        .env("CARGO_TARGET_DIR", &target)
        .args(["bench", "--locked", "--bench", "instructions"])
        .current_dir(HERE)
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!(
            "the bench failed; it needs valgrind, and gungraun-runner of the version of gungraun"
        );
        return ExitCode::FAILURE;
    }
    let mut counts = BTreeMap::new();
    collect(&target.join("gungraun"), &mut counts);

    let file = Path::new(HERE).join("counts.txt");
    if std::env::args().any(|argument| argument == "--update") {
        let lines: String = counts
            .iter()
            .map(|(name, count)| format!("{name} {count}\n"))
            .collect();
        fs::write(file, lines).expect("counts.txt can be written");
        return ExitCode::SUCCESS;
    }
    let committed = fs::read_to_string(file).expect("counts.txt is committed");
    let mut grown = false;
    for line in committed.lines() {
        let (name, old) = line.split_once(' ').expect("a name and a count");
        let old: f64 = old.parse().expect("a count");
        let Some(&new) = counts.get(name) else {
            println!("{name}: was not measured");
            grown = true;
            continue;
        };
        let change = 100.0 * (new as f64 / old - 1.0);
        let too_much = change > LIMIT_PERCENT;
        let mark = if too_much { "  GROWN" } else { "" };
        println!("{name}: {old} -> {new} ({change:+.1} %){mark}");
        grown |= too_much;
    }
    if grown {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Reads the instruction count of every profile below a folder.
fn collect(folder: &Path, counts: &mut BTreeMap<String, u64>) {
    for entry in fs::read_dir(folder).expect("the bench has written its profiles") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_dir() {
            collect(&path, counts);
        } else if let Some(bench) = name
            .strip_prefix("callgrind.")
            .and_then(|name| name.strip_suffix(".out"))
        {
            let profile = fs::read_to_string(&path).expect("a profile");
            counts.insert(bench.to_owned(), instructions(&profile));
        }
    }
}

/// Adds up the instructions of a profile in callgrind's format, but those in the C library.
fn instructions(profile: &str) -> u64 {
    assert!(
        profile.contains("\npositions: line\nevents: Ir "),
        "lines of a position and the instructions"
    );
    let (mut sum, mut is_ours, mut is_of_a_call) = (0, true, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_ours = !object.contains("/libc.so");
        } else if line.starts_with("calls=") {
            // The line behind it has the instructions of what is called, which come by themselves, too.
            is_of_a_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            if is_ours && !is_of_a_call {
                let count = line.split(' ').nth(1).unwrap_or("0");
                sum += count.parse::<u64>().expect("a count");
            }
            is_of_a_call = false;
        }
    }
    sum
}

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const LIMIT_PERCENT: f64 = 3.0;
