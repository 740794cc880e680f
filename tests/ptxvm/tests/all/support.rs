//! Small kernels and the memory they run on.

use std::sync::Arc;

use ptxvm::{Completion, Fault, FaultKind, Kernel, Launch, Machine, Module, Options, Rounding, Statistics};

/// A module with one entry `k`.
pub fn text(params: &str, body: &str) -> String {
    let list: Vec<String> =
        params.split_whitespace().map(|param| param.replace(':', " ")).map(|p| format!(".param .{p}")).collect();
    format!(".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k({})\n{{\n{body}\n}}\n", list.join(", "))
}

/// The entry `k` of a module with these parameters (`u64:a u32:n`) and this body.
pub fn kernel(params: &str, body: &str) -> Arc<Kernel> {
    let text = text(params, body);
    Module::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).kernel("k").expect("the entry k")
}

/// Why a body is refused.
pub fn refusal(params: &str, body: &str) -> String {
    Module::parse(&text(params, body)).expect_err("the body should be refused").to_string()
}

/// Parameters with natural alignment.
#[derive(Default, Clone)]
pub struct Params(pub Vec<u8>);

impl Params {
    pub fn u64(mut self, value: u64) -> Self {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
}

pub fn options(seed: u64) -> Options {
    Options { seed, ..Options::default() }
}

/// Every combination of a few seeds and of late and early copies.
pub fn variants() -> impl Iterator<Item = Options> {
    (0..12).flat_map(|seed| [Completion::Late, Completion::Early].map(|completion| Options { completion, ..options(seed) }))
}

pub fn towards_zero() -> Options {
    Options { mma: Rounding::TowardZero, ..Options::default() }
}

/// Writes a slice of little-endian values to a new allocation.
pub fn upload<T: Bytes>(machine: &mut Machine, values: &[T]) -> u64 {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes()).collect();
    let address = machine.alloc(bytes.len() as u64).expect("memory");
    machine.write(address, &bytes).expect("a write inside the allocation");
    address
}

/// Reads values back.
pub fn download<T: Bytes>(machine: &Machine, address: u64, count: usize) -> Vec<T> {
    let size = std::mem::size_of::<T>();
    let mut bytes = vec![0; count * size];
    machine.read(address, &mut bytes).expect("a read inside the allocation");
    bytes.chunks(size).map(T::value).collect()
}

pub trait Bytes: Copy {
    fn bytes(self) -> Vec<u8>;
    fn value(bytes: &[u8]) -> Self;
}

macro_rules! bytes {
    ($($t:ty),*) => {$(
        impl Bytes for $t {
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn value(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("as many bytes as the type has"))
            }
        }
    )*};
}
bytes!(u8, u16, u32, u64, i32, f32, f64);

pub fn launch(
    machine: &mut Machine,
    kernel: &Kernel,
    grid: u32,
    block: u32,
    dynamic_shared: u32,
    params: &Params,
) -> Result<Statistics, Fault> {
    machine.launch(kernel, &Launch { grid: [grid, 1, 1], block: [block, 1, 1], dynamic_shared, params: &params.0 })
}

/// Runs a body with one parameter `out`, a buffer of `count` u32, and returns the buffer or the fault.
pub fn run(options: Options, body: &str, grid: u32, block: u32, count: usize) -> Result<Vec<u32>, Fault> {
    let kernel = kernel("u64:out", body);
    let mut machine = Machine::new(options);
    let out = machine.alloc(4 * count as u64).expect("memory");
    launch(&mut machine, &kernel, grid, block, 0, &Params::default().u64(out))?;
    Ok(download(&machine, out, count))
}

/// The defective body is caught as `kind` at the line that contains `line`, in every variant; the correct twin runs.
pub fn caught(kind: FaultKind, line: &str, defective: &str, correct: &str, grid: u32, block: u32, count: usize) {
    for options in variants() {
        let fault = run(options.clone(), defective, grid, block, count).expect_err("the defect should be caught");
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.text.contains(line), "{fault}");
        if let Err(fault) = run(options, correct, grid, block, count) {
            panic!("the correct twin: {fault}");
        }
    }
}

/// Executes an instruction on `%a`, `%b`, `%c` and `%e` (as many as there are `types`, one row a thread) and returns `%d`.
pub fn apply(instructions: &str, types: &[&str], result: &str, rows: &[&[u64]]) -> Vec<u64> {
    let names = ["%a", "%b", "%c", "%e"];
    let mut body = format!(
        ".reg .{result} %d; .reg .b64 %in, %out, %row; .reg .b32 %me; .reg .pred %p, %q;\n\
         mov.u32 %me, %tid.x;\nld.param.u64 %in, [in];\nld.param.u64 %out, [out];\n\
         mad.wide.u32 %out, %me, 8, %out;\nmul.wide.u32 %row, %me, {};\nadd.u64 %in, %in, %row;\n",
        8 * types.len()
    );
    for (k, (name, ty)) in names.iter().zip(types).enumerate() {
        body += &format!(".reg .{ty} {name};\nld.global.{ty} {name}, [%in+{}];\n", 8 * k);
    }
    body += instructions;
    body += &format!("\nst.global.{result} [%out], %d;\n");
    let kernel = kernel("u64:in u64:out", &body);
    let mut machine = Machine::new(Options::default());
    let values: Vec<u64> = rows.iter().flat_map(|row| row.iter().copied()).collect();
    let input = upload(&mut machine, &values);
    let out = upload(&mut machine, &vec![0u64; rows.len()]);
    let params = Params::default().u64(input).u64(out);
    launch(&mut machine, &kernel, 1, rows.len() as u32, 0, &params).unwrap_or_else(|fault| panic!("{fault}"));
    download(&machine, out, rows.len())
}

/// As [`apply`], with arguments and results in f32.
pub fn apply_f32(instructions: &str, rows: &[&[f32]]) -> Vec<f32> {
    let bits: Vec<Vec<u64>> = rows.iter().map(|row| row.iter().map(|x| x.to_bits().into()).collect()).collect();
    let rows: Vec<&[u64]> = bits.iter().map(Vec::as_slice).collect();
    let types = vec!["f32"; rows[0].len()];
    apply(instructions, &types, "f32", &rows).iter().map(|&bits| f32::from_bits(bits as u32)).collect()
}

/// As [`apply`], with arguments and results in f64.
pub fn apply_f64(instructions: &str, rows: &[&[f64]]) -> Vec<f64> {
    let bits: Vec<Vec<u64>> = rows.iter().map(|row| row.iter().map(|x| x.to_bits()).collect()).collect();
    let rows: Vec<&[u64]> = bits.iter().map(Vec::as_slice).collect();
    let types = vec!["f64"; rows[0].len()];
    apply(instructions, &types, "f64", &rows).iter().map(|&bits| f64::from_bits(bits)).collect()
}

/// Numbers that look random and are the same every time, in [-1, 1).
pub fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
