//! Every WGSL kernel in every configuration, without an adapter: naga validates it for the weakest
//! device it is meant for and translates it for each API, and its parameter block is the host's.

use mechgraph::kernel::wgsl::linear_coop::{LINEAR_COOP, Unit, configurations_of};
use mechgraph::kernel::wgsl::{KERNELS, overrides};
use mechgraph::kernel::{Configuration, Kernel};
use naga::back::{hlsl, msl, pipeline_constants, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, Scalar, ShaderStage, TypeInner};

/// Every configuration that a device may be handed, and those that emulate cooperative matrices for tests.
fn each(mut f: impl FnMut(&'static Kernel, &Configuration, &Module)) {
    for &kernel in KERNELS {
        let emulated = [(16, 32), (8, 32)].map(|(side, lanes)| configurations_of(Unit { side, lanes, emulated: true }));
        let emulated = emulated.into_iter().flatten().filter(|_| kernel.name == LINEAR_COOP.name);
        for configuration in (kernel.configurations)().into_iter().chain(emulated) {
            let text = kernel.expand(&configuration).unwrap();
            let name = format!("{}@{}", kernel.name, configuration.name);
            let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&text)));
            f(kernel, &configuration, &module);
        }
    }
}

/// What a configuration may ask of a device: nothing, or immediates, subgroups or cooperative matrices where it says so.
fn capabilities(configuration: &Configuration) -> Capabilities {
    let says = |word, value| configuration.constants.get_word(word) == Some(value);
    let mut all = Capabilities::empty();
    all.set(Capabilities::IMMEDIATES, says("PARAMS", "immediates"));
    all.set(Capabilities::SUBGROUP, says("REDUCE", "subgroup"));
    all.set(Capabilities::SHADER_FLOAT16, says("FRAGMENT", "native") || says("FRAGMENT", "emulated"));
    all.set(Capabilities::COOPERATIVE_MATRIX, says("FRAGMENT", "native"));
    all
}

/// The APIs that can run a configuration: no matrices of f16 by DirectX, and none but of 8 x 8 by Metal.
fn apis(configuration: &Configuration) -> (bool, bool) {
    let native = configuration.constants.get_word("FRAGMENT") == Some("native");
    (!native || configuration.constants.get_int("SIDE") == Some(8), !native)
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
        // Vulkan 1.1, Metal 2.3 and shader model 6.0 have subgroups; what has none is written for those before. Cooperative
        // matrices came with Metal 2.3 too.
        let subgroups = capabilities(configuration).contains(Capabilities::SUBGROUP);
        let lang_version = if subgroups { (1, 3) } else { spv::Options::default().lang_version };
        let target = spv::Options { lang_version, ..Default::default() };
        let words = spv::write_vec(&module, &info, &target, Some(&options)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(words.len() > 100, "{name}");
        let (on_metal, on_direct) = apis(configuration);
        if on_metal {
            let options = msl::PipelineOptions { entry_point: Some(entry.clone()), ..Default::default() };
            let lang_version = if subgroups || !on_direct { (2, 3) } else { msl::Options::default().lang_version };
            let target = msl::Options { lang_version, ..Default::default() };
            let (metal, _) = msl::write_string(&module, &info, &target, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(metal.contains("kernel void"), "{name}");
            assert_eq!(metal.contains("simd_shuffle("), subgroups, "{name}");
        }
        if on_direct {
            let mut direct = String::new();
            let (target, options) = (hlsl::Options::default(), hlsl::PipelineOptions { entry_point: Some(entry) });
            let shader_model = if subgroups { hlsl::ShaderModel::V6_0 } else { target.shader_model };
            let target = hlsl::Options { immediates_target: Some(hlsl::BindTarget::default()), shader_model, ..target };
            hlsl::Writer::new(&mut direct, &target, &options)
                .write(&module, &info, None)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(direct.contains("numthreads"), "{name}");
            assert_eq!(direct.contains("WaveReadLaneAt("), subgroups, "{name}");
        }
        if subgroups {
            let bare = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module);
            assert!(bare.is_err(), "{name}: a text with subgroups that validates without them");
        }
        count += 1;
    });
    assert!(count > 100, "{count}");
}

#[test]
fn cooperative_matrices_ask_for_what_they_need_and_no_more() {
    let mut seen = [0, 0];
    each(|kernel, configuration, module| {
        let needed = capabilities(configuration);
        let matrices = needed.contains(Capabilities::SHADER_FLOAT16);
        assert_eq!(matrices, kernel.name == LINEAR_COOP.name, "{}", kernel.name);
        // Everything of a text but its products is the same with and without cooperative matrices.
        for missing in needed.iter().filter(|_| matrices) {
            let valid = Validator::new(ValidationFlags::all(), needed - missing).validate(module);
            assert!(valid.is_err(), "{} is valid without {missing:?}", configuration.name);
            seen[usize::from(missing == Capabilities::COOPERATIVE_MATRIX)] += 1;
        }
    });
    assert!(seen[0] > seen[1] && seen[1] > 100, "{seen:?}");
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
