//! What a store costs while it grows, each contender in a process of its own.

use std::process::Command;
use std::time::Instant;

use axum::http::Method;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::contenders;

/// The worst single write, and the resident bytes that a key takes in the end.
pub struct Growth {
    pub worst_micros: f64,
    pub bytes_per_key: f64,
}

/// Measures one contender in a child of this process, so that none sees another's memory.
pub fn measure(name: &str, keys: usize) -> Growth {
    let this = std::env::current_exe().expect("the path of this program");
    let output = Command::new(this)
        .args([CHILD, name, &keys.to_string()])
        .output()
        .expect("a child process");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let mut numbers = text
        .split_whitespace()
        .map(|number| number.parse().expect("a number"));
    Growth {
        worst_micros: numbers.next().expect("the worst write"),
        bytes_per_key: numbers.next().expect("the bytes"),
    }
}

/// The first argument of a child.
pub const CHILD: &str = "--grow";

/// What the child does: it writes its two numbers.
pub fn child(name: &str, keys: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let contender = contenders::one(name).await;
        let mut worst = 0;
        let mut base = 0;
        for n in 0..keys + WARM_UP {
            if n == WARM_UP {
                (worst, base) = (0, resident_bytes());
            }
            let request = contender.request(Method::POST, "/vms", &format!("key-{n:032}"));
            let app = contender.app.clone();
            let start = Instant::now();
            let Ok(response) = app.oneshot(request).await;
            let body = response.into_body().collect().await;
            worst = worst.max(start.elapsed().as_nanos());
            let _ = std::hint::black_box(body);
        }
        let grown = resident_bytes().saturating_sub(base);
        println!("{} {}", worst as f64 / 1000.0, grown as f64 / keys as f64);
    });
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux's process statistics");
    let pages = statm.split_whitespace().nth(1).expect("a second field");
    pages.parse::<usize>().expect("a number") * 4096
}

const WARM_UP: usize = 1000;
