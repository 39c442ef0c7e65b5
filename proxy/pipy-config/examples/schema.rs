//! Prints the contract's JSON Schema: `cargo run -p pipy-config --example schema > contract/proxy-config.schema.json`.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

fn main() {
    print!("{}", pipy_config::schema());
}
