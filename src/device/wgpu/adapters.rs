//! The adapters of this machine, and which of them a run takes.

use std::fmt;

use ::wgpu::{AdapterInfo, Backend, Backends, DeviceType, Features, Instance, InstanceDescriptor, InstanceFlags};
use serde::Serialize;

use crate::error::{Error, Result};

/// What an adapter is, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Discrete,
    Integrated,
    Virtual,
    /// Neither the driver nor wgpu says what it is.
    Unknown,
    /// It computes on the CPU.
    Software,
}

impl Kind {
    /// Whether a run may take it without being asked to.
    pub fn is_hardware(self) -> bool {
        matches!(self, Kind::Discrete | Kind::Integrated | Kind::Virtual)
    }
}

/// An adapter as `mechgraph devices` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct Adapter {
    pub name: String,
    /// The API it is reached by: `vulkan`, `metal`, `dx12`.
    pub api: String,
    pub driver: String,
    pub kind: Kind,
    /// PCI vendor, or the API's own number for those without one.
    pub vendor: u32,
    /// The most bytes of one binding.
    pub largest_binding: u64,
    /// The most bytes of one buffer.
    pub largest_buffer: u64,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// The most invocations of a workgroup.
    pub invocations: u32,
    /// The optional features that kernels use or may come to use.
    pub features: Vec<&'static str>,
    /// Products of cooperative matrices, as `16x16x16 f16 -> f32`: m, n, k, the factors' type, the sum's.
    pub cooperative_matrices: Vec<String>,
    /// Why a run does not take it by itself, for a driver that is known to be wrong.
    pub fault: Option<&'static str>,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == Kind::Software { ", software" } else { "" };
        write!(f, "{} ({}, {}{kind})", self.name, self.api, self.driver)
    }
}

/// A driver whose results cannot be trusted. A run passes it over unless it is named.
#[derive(Debug)]
pub struct KnownFault {
    /// The adapter's vendor number; `None` for any.
    pub vendor: Option<u32>,
    /// Part of the driver's name and version, whatever its case.
    pub driver: &'static str,
    /// What it gets wrong, and where that was reported.
    pub what: &'static str,
}

/// Drivers known to compute wrong results.
static KNOWN_FAULTS: &[KnownFault] = &[];

/// Optional features, with the names that reports use.
const FEATURES: [(Features, &str); 6] = [
    (Features::IMMEDIATES, "immediates"),
    (Features::TIMESTAMP_QUERY, "timestamps"),
    (Features::SUBGROUP, "subgroups"),
    (Features::SHADER_F16, "f16"),
    (Features::SHADER_F64, "f64"),
    (Features::EXPERIMENTAL_COOPERATIVE_MATRIX, "cooperative matrices"),
];

fn fault(adapter: &Adapter, known: &[KnownFault]) -> Option<&'static str> {
    let driver = adapter.driver.to_lowercase();
    let hit = |k: &&KnownFault| k.vendor.is_none_or(|v| v == adapter.vendor) && driver.contains(&k.driver.to_lowercase());
    known.iter().find(hit).map(|k| k.what)
}

/// The driver's name and version; Mesa repeats the one in the other.
fn driver(info: &AdapterInfo) -> String {
    match (info.driver.as_str(), info.driver_info.as_str()) {
        ("", "") => "unknown driver".into(),
        (name, "") => name.into(),
        ("", version) => version.into(),
        (name, version) => format!("{name} {version}"),
    }
}

/// As `16x16x16 f16 -> f32`.
pub(super) fn cooperative(p: &::wgpu::CooperativeMatrixProperties) -> String {
    let name = |t| format!("{t:?}").to_lowercase();
    format!("{}x{}x{} {} -> {}", p.m_size, p.n_size, p.k_size, name(p.ab_type), name(p.cr_type))
}

fn describe(raw: &::wgpu::Adapter) -> Adapter {
    let (info, limits, features) = (raw.get_info(), raw.limits(), raw.features());
    let kind = match info.device_type {
        DeviceType::DiscreteGpu => Kind::Discrete,
        DeviceType::IntegratedGpu => Kind::Integrated,
        DeviceType::VirtualGpu => Kind::Virtual,
        DeviceType::Cpu => Kind::Software,
        DeviceType::Other => Kind::Unknown,
    };
    let api = match info.backend {
        Backend::Vulkan => "vulkan",
        Backend::Metal => "metal",
        Backend::Dx12 => "dx12",
        other => other.to_str(),
    };
    let mut adapter = Adapter {
        driver: driver(&info),
        name: info.name,
        api: api.into(),
        kind,
        vendor: info.vendor,
        largest_binding: limits.max_storage_buffer_binding_size,
        largest_buffer: limits.max_buffer_size,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        invocations: limits.max_compute_invocations_per_workgroup,
        features: FEATURES.iter().filter(|(f, _)| features.contains(*f)).map(|(_, name)| *name).collect(),
        cooperative_matrices: raw.cooperative_matrix_properties().iter().map(cooperative).collect(),
        fault: None,
    };
    adapter.fault = fault(&adapter, KNOWN_FAULTS);
    adapter
}

/// Every adapter, the best first; in the order of the APIs among equals.
pub(super) fn list() -> Vec<(::wgpu::Adapter, Adapter)> {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.flags = InstanceFlags::empty();
    let raw = pollster::block_on(Instance::new(descriptor).enumerate_adapters(Backends::PRIMARY));
    let mut all: Vec<_> = raw.into_iter().map(|raw| (describe(&raw), raw)).map(|(adapter, raw)| (raw, adapter)).collect();
    all.sort_by_key(|(_, a)| (a.fault.is_some(), a.kind));
    all
}

/// The adapter that a run takes; `name` is part of its name, whatever the case.
pub(super) fn find(name: Option<&str>) -> Result<(::wgpu::Adapter, Adapter)> {
    let mut all = list();
    let known: Vec<&Adapter> = all.iter().map(|(_, a)| a).collect();
    let index = choose(&known, name)?;
    Ok(all.swap_remove(index))
}

/// The index of the adapter to take of `all`, which come the best first.
fn choose(all: &[&Adapter], name: Option<&str>) -> Result<usize> {
    let error = |found: String, expected: String| Error::Backend { backend: "wgpu", found, expected };
    let names: Vec<String> = all.iter().map(|a| a.to_string()).collect();
    if all.is_empty() {
        let expected = "a driver for Vulkan, Metal or DirectX 12".into();
        return Err(error("no adapter on this machine".into(), expected));
    }
    match name {
        Some(part) => {
            let hit = all.iter().position(|a| a.name.to_lowercase().contains(&part.to_lowercase()));
            hit.ok_or_else(|| error(format!("no adapter whose name holds '{part}'"), format!("one of: {}", names.join("; "))))
        }
        None => {
            let hit = all.iter().position(|a| a.kind.is_hardware() && a.fault.is_none());
            hit.ok_or_else(|| {
                let why = all.iter().map(|a| match a.fault {
                    Some(what) => format!("{a}: {what}"),
                    None => a.to_string(),
                });
                let there = why.collect::<Vec<_>>().join("; ");
                error(format!("no hardware adapter but {there}"), "a GPU, or --adapter with part of one of these names".into())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: Kind, driver: &str) -> Adapter {
        Adapter {
            name: name.into(),
            api: "vulkan".into(),
            driver: driver.into(),
            kind,
            vendor: 7,
            largest_binding: 0,
            largest_buffer: 0,
            workgroup_memory: 0,
            invocations: 0,
            features: Vec::new(),
            cooperative_matrices: Vec::new(),
            fault: None,
        }
    }

    #[test]
    fn the_best_hardware_adapter_is_taken_and_software_only_by_name() {
        let (card, chip) = (adapter("Card 9", Kind::Discrete, "a"), adapter("Chip", Kind::Integrated, "b"));
        let soft = adapter("softpipe (LLVM)", Kind::Software, "c");
        assert_eq!(choose(&[&card, &chip, &soft], None).unwrap(), 0);
        assert_eq!(choose(&[&card, &chip, &soft], Some("CHIP")).unwrap(), 1);
        assert_eq!(choose(&[&card, &chip, &soft], Some("llvm")).unwrap(), 2);
        for kind in [Kind::Software, Kind::Unknown] {
            let text = choose(&[&adapter("x", kind, "c")], None).unwrap_err().to_string();
            assert!(text.contains("no hardware adapter but x (vulkan, c") && text.contains("--adapter"), "{text}");
        }
        let text = choose(&[&card, &chip], Some("voodoo")).unwrap_err().to_string();
        assert_eq!(
            text,
            "backend wgpu: no adapter whose name holds 'voodoo'; expected one of: Card 9 (vulkan, a); Chip (vulkan, b)"
        );
        assert!(choose(&[], None).unwrap_err().to_string().contains("no adapter on this machine"));
    }

    #[test]
    fn a_driver_with_a_known_fault_is_passed_over_unless_named() {
        let known = [KnownFault { vendor: Some(7), driver: "BAD 1.2", what: "loses stores to workgroup memory" }];
        let mut card = adapter("Card", Kind::Discrete, "bad 1.2.3");
        assert_eq!(fault(&adapter("Card", Kind::Discrete, "bad 1.3"), &known), None);
        assert_eq!(fault(&Adapter { vendor: 8, ..card.clone() }, &known), None);
        card.fault = fault(&card, &known);
        assert_eq!(card.fault, Some("loses stores to workgroup memory"));
        let chip = adapter("Chip", Kind::Integrated, "b");
        assert_eq!(choose(&[&chip, &card], None).unwrap(), 0);
        assert_eq!(choose(&[&chip, &card], Some("card")).unwrap(), 1);
        let text = choose(&[&card], None).unwrap_err().to_string();
        assert!(text.contains("loses stores to workgroup memory"), "{text}");
    }
}
