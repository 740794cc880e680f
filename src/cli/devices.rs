//! `mechgraph devices`: which backends are there, and which one `auto` picks and why.

use serde::Serialize;

use super::common::{print, print_json};
use crate::device::wgpu::Adapter;
use crate::device::{Choice, Device, Request, Wgpu};
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
    let mut devices = vec![row("cuda", open(Choice::Cuda).map(|(device, _)| device))];
    let adapters = Wgpu::adapters();
    devices.extend(adapters.iter().map(|adapter| Row {
        backend: "wgpu",
        name: adapter.to_string(),
        available: true,
        why: offers(adapter),
    }));
    if adapters.is_empty() {
        devices.push(row("wgpu", open(Choice::Wgpu).map(|(device, _)| device)));
    }
    devices.push(row("cpu", open(Choice::Cpu).map(|(device, _)| device)));
    let (auto, passed_over) = open(Choice::Auto)?;
    let why = if passed_over.is_empty() { ABOUT_AUTO.into() } else { format!("{ABOUT_AUTO}; {}", passed_over.join("; ")) };
    Ok(Report { schema_version: 1, devices, auto: auto.backend(), why })
}

/// What an adapter has, and what keeps `auto` from it.
fn offers(adapter: &Adapter) -> String {
    let limits = format!(
        "bindings of {} MiB, {} KiB of workgroup memory, {} invocations",
        adapter.largest_binding >> 20,
        adapter.workgroup_memory >> 10,
        adapter.invocations
    );
    let features = if adapter.features.is_empty() { "no optional feature".into() } else { adapter.features.join(", ") };
    let barred = match adapter.fault {
        Some(fault) => format!("; only by --adapter: {fault}"),
        None if adapter.kind.is_hardware() => String::new(),
        None => "; only by --adapter: no hardware".into(),
    };
    format!("{limits}; {features}{barred}")
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
    fn every_backend_has_a_row_and_columns_line_up() {
        let report = report().unwrap();
        let backends: Vec<_> = report.devices.iter().map(|d| d.backend).collect();
        let (first, last) = (backends.first(), report.devices.last().unwrap());
        assert!(first == Some(&"cuda") && backends.contains(&"wgpu"), "{backends:?}");
        assert_eq!((last.backend, last.available), ("cpu", true));
        let text = table(&report);
        let picked = format!("auto picks {}: ", report.auto);
        assert!(text.contains(&picked), "{text}");
        let column = text.lines().next().and_then(|l| l.find("available")).unwrap();
        let cells: Vec<_> = text
            .lines()
            .take(1 + report.devices.len())
            .map(|l| l.chars().skip(column).take_while(|c| *c != ' ').collect::<String>())
            .collect();
        assert!(cells[1..].iter().all(|c| c == "yes" || c == "no") && cells[0] == "available", "{cells:?}");
    }
}
