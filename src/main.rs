use std::process::ExitCode;

fn main() -> ExitCode {
    mechgraph::cli::main()
}
