//! Runs the bench and fails if a count has grown by more than 3 % beyond what is committed.
//!
//! `cargo run` checks; `cargo run -- --update` writes the counts of this run to `counts.txt`.

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
        .args([
            "bench",
            "--bench",
            "instructions",
            "--",
            "--save-summary=json",
        ])
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

/// Reads the instruction count of every summary below a folder.
fn collect(folder: &Path, counts: &mut BTreeMap<String, u64>) {
    for entry in fs::read_dir(folder).expect("the bench has written its summaries") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, counts);
        } else if path.ends_with("summary.json") {
            let name = path
                .parent()
                .and_then(Path::file_name)
                .expect("a folder a bench");
            let text = fs::read_to_string(&path).expect("a summary");
            let summary = serde_json::from_str(&text).expect("JSON");
            let count = instructions(&summary).expect("an instruction count");
            counts.insert(name.to_string_lossy().into_owned(), count);
        }
    }
}

/// Finds the count of this run, wherever the summary's version keeps it.
fn instructions(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Object(fields) => match fields.get("Ir") {
            Some(ir) => first_number(ir),
            None => fields.values().find_map(instructions),
        },
        serde_json::Value::Array(items) => items.iter().find_map(instructions),
        _ => None,
    }
}

/// The first number is the new count; those behind it are the count before and the difference.
fn first_number(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Number(number) => number.as_u64(),
        serde_json::Value::Object(fields) => fields.values().find_map(first_number),
        serde_json::Value::Array(items) => items.iter().find_map(first_number),
        _ => None,
    }
}

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const LIMIT_PERCENT: f64 = 3.0;
