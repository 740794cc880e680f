//! `mechgraph devices`: which backends are there, and which one `auto` picks and why.

use serde::Serialize;

use super::common::{print, print_json};
use crate::device::{Choice, Device, Request};
use crate::error::{Error, Result};

const ABOUT_AUTO: &str = "the fastest available of cuda, a hardware wgpu adapter and cpu, in this order";

/// List the backends and say which one `auto` picks
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    backend: &'static str,
    name: String,
    available: bool,
    why: String,
}

#[derive(Debug, Serialize)]
struct Report {
    schema_version: u32,
    devices: Vec<Row>,
    /// The backend that `--backend auto` opens.
    auto: &'static str,
    why: String,
}

/// Prints the report to stdout.
pub fn run(args: Args) -> Result<()> {
    let report = report()?;
    if args.json {
        return print_json(&report);
    }
    print(&table(&report))
}

fn report() -> Result<Report> {
    let open = |choice| Device::open(&Request { choice, ..Request::default() });
    let choices = [("cuda", Choice::Cuda), ("wgpu", Choice::Wgpu), ("cpu", Choice::Cpu)];
    let devices = choices.map(|(backend, choice)| row(backend, open(choice).map(|(device, _)| device))).into();
    Ok(Report { schema_version: 1, devices, auto: open(Choice::Auto)?.0.backend(), why: ABOUT_AUTO.into() })
}

fn row(backend: &'static str, opened: Result<Device>) -> Row {
    match opened {
        Ok(device) => Row { backend, name: device.describe(), available: true, why: "opened".into() },
        Err(Error::Backend { found, .. }) => Row { backend, name: "-".into(), available: false, why: found },
        Err(e) => Row { backend, name: "-".into(), available: false, why: e.to_string() },
    }
}

fn table(report: &Report) -> String {
    let header = ["backend", "name", "available", "why"].map(String::from);
    let rows = report.devices.iter().map(|d| {
        let available = if d.available { "yes" } else { "no" };
        [d.backend.into(), d.name.clone(), available.into(), d.why.clone()]
    });
    let rows: Vec<[String; 4]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [backend, name, available, why] in &rows {
        text += &format!("{backend:0$}  {name:1$}  {available:2$}  {why}\n", widths[0], widths[1], widths[2]);
    }
    text + &format!("\nauto picks {}: {}\n", report.auto, report.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_there_and_columns_line_up() {
        let report = report().unwrap();
        let available: Vec<_> = report.devices.iter().map(|d| (d.backend, d.available)).collect();
        assert_eq!(available, [("cuda", false), ("wgpu", false), ("cpu", true)]);
        let text = table(&report);
        assert!(text.contains("auto picks cpu: "), "{text}");
        let column = text.lines().next().and_then(|l| l.find("available")).unwrap();
        let cells: Vec<_> =
            text.lines().take(4).map(|l| l.chars().skip(column).take_while(|c| *c != ' ').collect::<String>()).collect();
        assert_eq!(cells, ["available", "no", "no", "yes"]);
    }
}
