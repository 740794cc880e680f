//! Every WGSL kernel in every configuration, without an adapter: naga validates it for the weakest
//! device it is meant for and translates it for each API, and its parameter block is the host's.

use mechgraph::kernel::wgsl::{KERNELS, overrides};
use mechgraph::kernel::{Configuration, Kernel};
use naga::back::{hlsl, msl, pipeline_constants, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, Scalar, ShaderStage, TypeInner};

fn each(mut f: impl FnMut(&'static Kernel, &Configuration, &Module)) {
    for kernel in KERNELS {
        for configuration in (kernel.configurations)() {
            let text = kernel.expand(&configuration).unwrap();
            let name = format!("{}@{}", kernel.name, configuration.name);
            let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&text)));
            f(kernel, &configuration, &module);
        }
    }
}

/// What a configuration may ask of a device: nothing, or immediates or subgroups where it says so.
fn capabilities(configuration: &Configuration) -> Capabilities {
    let says = |word, value| configuration.constants.get_word(word) == Some(value);
    let mut all = Capabilities::empty();
    all.set(Capabilities::IMMEDIATES, says("PARAMS", "immediates"));
    all.set(Capabilities::SUBGROUP, says("REDUCE", "subgroup"));
    all
}

fn validate(configuration: &Configuration, module: &Module) -> ModuleInfo {
    let mut validator = Validator::new(ValidationFlags::all(), capabilities(configuration));
    validator.validate(module).unwrap_or_else(|e| panic!("{}: {}", configuration.name, e.emit_to_string("")))
}

/// Workgroup size and bytes of workgroup memory of a module whose overrides have values.
fn workgroup(module: &Module) -> (u32, u32) {
    let threads = module.entry_points[0].workgroup_size.iter().product();
    let memory = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
    (threads, memory.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum())
}

#[test]
fn every_shader_is_valid_without_optional_capabilities_and_translates_for_every_api() {
    let mut count = 0;
    each(|kernel, configuration, module| {
        let name = format!("{}@{}", kernel.name, configuration.name);
        let info = validate(configuration, module);
        let entry = (ShaderStage::Compute, kernel.name.to_string());
        let constants = overrides(configuration).into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        let point = Some((ShaderStage::Compute, kernel.name));
        let (module, info) =
            pipeline_constants::process_overrides(module, &info, point, &constants).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(workgroup(&module), (configuration.threads, configuration.shared), "{name}");

        let options = spv::PipelineOptions { shader_stage: entry.0, entry_point: entry.1.clone() };
        // Vulkan 1.1, Metal 2.3 and shader model 6.0 have subgroups; what has none is written for those before.
        let subgroups = capabilities(configuration).contains(Capabilities::SUBGROUP);
        let lang_version = if subgroups { (1, 3) } else { spv::Options::default().lang_version };
        let target = spv::Options { lang_version, ..Default::default() };
        let words = spv::write_vec(&module, &info, &target, Some(&options)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let options = msl::PipelineOptions { entry_point: Some(entry.clone()), ..Default::default() };
        let lang_version = if subgroups { (2, 3) } else { msl::Options::default().lang_version };
        let target = msl::Options { lang_version, ..Default::default() };
        let (metal, _) = msl::write_string(&module, &info, &target, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut direct = String::new();
        let (target, options) = (hlsl::Options::default(), hlsl::PipelineOptions { entry_point: Some(entry) });
        let shader_model = if subgroups { hlsl::ShaderModel::V6_0 } else { target.shader_model };
        let target = hlsl::Options { immediates_target: Some(hlsl::BindTarget::default()), shader_model, ..target };
        hlsl::Writer::new(&mut direct, &target, &options).write(&module, &info, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(words.len() > 100 && metal.contains("kernel void") && direct.contains("numthreads"), "{name}");
        assert_eq!((metal.contains("simd_shuffle("), direct.contains("WaveReadLaneAt(")), (subgroups, subgroups), "{name}");
        if subgroups {
            let bare = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module);
            assert!(bare.is_err(), "{name}: a text with subgroups that validates without them");
        }
        count += 1;
    });
    assert!(count > 100, "{count}");
}

#[test]
fn parameter_blocks_are_laid_out_alike_on_both_sides() {
    each(|kernel, configuration, module| {
        let name = format!("{}@{}", kernel.name, configuration.name);
        let mut blocks = module.global_variables.iter().map(|(_, v)| v).filter(|v| v.name.as_deref() == Some("p"));
        let block = blocks.next().unwrap_or_else(|| panic!("{name}: no parameter block"));
        let TypeInner::Struct { members, span } = &module.types[block.ty].inner else { panic!("{name}: p is no struct") };
        let kind = |inner: &TypeInner| match *inner {
            TypeInner::Scalar(Scalar::U32) => "u32",
            TypeInner::Scalar(Scalar::F32) => "f32",
            ref other => panic!("{name}: {other:?} in the parameter block"),
        };
        let found: Vec<(&str, usize, &str)> =
            members.iter().map(|m| (m.name.as_deref().unwrap(), m.offset as usize, kind(&module.types[m.ty].inner))).collect();
        let wanted: Vec<(&str, usize, &str)> = kernel.params.iter().map(|f| (f.name, f.offset, f.kind)).collect();
        assert_eq!(found, wanted, "{name}");
        assert_eq!(*span as usize, 4 * wanted.len(), "{name}");
        let space = match configuration.constants.get_word("PARAMS") {
            Some("immediates") => AddressSpace::Immediate,
            _ => AddressSpace::Uniform,
        };
        assert_eq!(block.space, space, "{name}");
    });
}

#[test]
fn validation_notices_what_a_browser_would_refuse() {
    let check = |text: &str| {
        let module = naga::front::wgsl::parse_str(text).map_err(|e| e.to_string())?;
        Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).map_err(|e| e.into_inner().to_string())
    };
    let head = "struct P { n: u32 }\n";
    let body = "@compute @workgroup_size(1) fn f(@builtin(local_invocation_index) i: u32) { if i < p.n { } }";
    assert!(check(&format!("{head}@group(0) @binding(0) var<uniform> p: P;\n{body}")).is_ok());
    assert!(check(&format!("{head}var<immediate> p: P;\n{body}")).is_err());
}
