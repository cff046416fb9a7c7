//! tower-idempotency beside other crates with the same aim, in one run: prints a Markdown table.

mod contenders;
mod counting;
mod growth;
mod latency;
mod throughput;

use latency::{Case, Latency};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, keys] = &arguments[..] {
        if flag == growth::CHILD {
            return growth::child(name, keys.parse().expect("a number of keys"));
        }
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let (rounds, keys) = if quick { (40, 20_000) } else { (300, 200_000) };

    eprintln!("measuring single requests …");
    let pass_through = latency::measure(Case::PassThrough, rounds);
    let first_write = latency::measure(Case::FirstWrite, rounds);
    let replay = latency::measure(Case::Replay, rounds);
    eprintln!("measuring throughput …");
    let throughput = throughput::measure(rounds / 20, 2);
    let runs = throughput::runs_for_equal_requests();

    println!("{}\n", machine());
    println!(
        "| | pass-through GET | first write | replay | allocations a request | 2 workers × 64 \
         tasks | runs for 50 equal requests | worst write to {keys} keys | bytes a key |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (index, name) in contenders::NAMES.into_iter().enumerate() {
        eprintln!("growing {name} …");
        let growth = match index {
            0 | 1 => ["–".into(), "–".into()],
            _ => {
                let growth = growth::measure(name, keys);
                [
                    format!("{:.2} ms", growth.worst_micros / 1000.0),
                    format!("{:.0}", growth.bytes_per_key),
                ]
            }
        };
        println!(
            "| {name} | {} | {} | {} | {:.0} / {:.0} / {:.0} | {:.0} % | {} | {} | {} |",
            cell(&pass_through, index),
            cell(&first_write, index),
            cell(&replay, index),
            pass_through[index].allocations,
            first_write[index].allocations,
            replay[index].allocations,
            100.0 * throughput[index] / throughput[0],
            runs[index],
            growth[0],
            growth[1],
        );
    }
}

/// Writes a median and its ratio to the bare handler's.
fn cell(all: &[Latency], index: usize) -> String {
    let ratio = all[index].nanos / all[0].nanos;
    format!("{:.0} ns ({ratio:.2})", all[index].nanos)
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |line| {
        line.trim_start_matches([' ', '\t', ':'])
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Measured on {cores} cores of {model}, in process; the ratio to the bare handler in brackets."
    )
}
