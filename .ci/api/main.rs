//! Lists the public items in the JSON of rustdoc that it is given, one a line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(json) = std::env::args_os().nth(1) else {
        eprintln!("api: which file?");
        return ExitCode::FAILURE;
    };
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .build();
    match api {
        Ok(api) => {
            let items = api.items().map(ToString::to_string);
            for item in items.filter(|item| !is_unstable(item)) {
                println!("{item}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("api: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether an item is one of the compiler's own marker traits, which change from version to version and
/// which no user can name.
fn is_unstable(item: &str) -> bool {
    item.contains("core::marker::Freeze") || item.contains("core::marker::UnsafeUnpin")
}
