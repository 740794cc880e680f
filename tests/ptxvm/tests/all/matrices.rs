//! Fragment layouts of every `mma` and of `ldmatrix` against plain matrix products.

use ptxvm::{Machine, Options};

use crate::support::{Params, download, kernel, launch, numbers, options, towards_zero, upload};

/// An `mma` kernel that takes its fragments element by element from row-major matrices in global memory and puts the
/// result back the same way. `index(register, half)` of A, B and C are written out from the PTX ISA.
struct Product {
    shape: &'static str,
    k: usize,
    /// Loads of fragments into `%a`, `%b`, `%c` as (register, half, row, column) with rows and columns in g and t.
    a: &'static [(usize, usize, &'static str, &'static str)],
    b: &'static [(usize, usize, &'static str, &'static str)],
    registers: (usize, usize),
}

const C: [(usize, &str, &str); 4] = [(0, "g", "2t"), (1, "g", "2t+1"), (2, "g+8", "2t"), (3, "g+8", "2t+1")];

/// Evaluates `g`, `t`, `g+8`, `2t+9`, .. for a lane.
fn place(expression: &str, lane: usize) -> usize {
    let (g, t) = (lane / 4, lane % 4);
    let (base, plus) = expression.split_once('+').unwrap_or((expression, "0"));
    let plus: usize = plus.parse().expect("a number");
    plus + match base {
        "g" => g,
        "t" => t,
        "2t" => 2 * t,
        other => panic!("{other}"),
    }
}

const TF32_K8: Product = Product {
    shape: "m16n8k8.row.col.f32.tf32.tf32.f32",
    k: 8,
    a: &[(0, 0, "g", "t"), (1, 0, "g+8", "t"), (2, 0, "g", "t+4"), (3, 0, "g+8", "t+4")],
    b: &[(0, 0, "t", "g"), (1, 0, "t+4", "g")],
    registers: (4, 2),
};
const TF32_K4: Product = Product {
    shape: "m16n8k4.row.col.f32.tf32.tf32.f32",
    k: 4,
    a: &[(0, 0, "g", "t"), (1, 0, "g+8", "t")],
    b: &[(0, 0, "t", "g")],
    registers: (2, 1),
};
const BF16_K16: Product = Product {
    shape: "m16n8k16.row.col.f32.bf16.bf16.f32",
    k: 16,
    a: &[
        (0, 0, "g", "2t"),
        (0, 1, "g", "2t+1"),
        (1, 0, "g+8", "2t"),
        (1, 1, "g+8", "2t+1"),
        (2, 0, "g", "2t+8"),
        (2, 1, "g", "2t+9"),
        (3, 0, "g+8", "2t+8"),
        (3, 1, "g+8", "2t+9"),
    ],
    b: &[(0, 0, "2t", "g"), (0, 1, "2t+1", "g"), (1, 0, "2t+8", "g"), (1, 1, "2t+9", "g")],
    registers: (4, 2),
};
const BF16_K8: Product = Product {
    shape: "m16n8k8.row.col.f32.bf16.bf16.f32",
    k: 8,
    a: &[(0, 0, "g", "2t"), (0, 1, "g", "2t+1"), (1, 0, "g+8", "2t"), (1, 1, "g+8", "2t+1")],
    b: &[(0, 0, "2t", "g"), (0, 1, "2t+1", "g")],
    registers: (2, 1),
};
const F16_K16: Product = Product { shape: "m16n8k16.row.col.f32.f16.f16.f32", ..BF16_K16 };
const F16_K8: Product = Product { shape: "m16n8k8.row.col.f32.f16.f16.f32", ..BF16_K8 };

impl Product {
    /// A value's bits in the operand's format, and what it then is.
    fn encode(&self, x: f64) -> (u32, f64) {
        let single = x as f32;
        if self.shape.contains("bf16") {
            let half = half::bf16::from_f32(single);
            (half.to_bits().into(), half.into())
        } else if self.shape.contains("f16") {
            let half = half::f16::from_f32(single);
            (half.to_bits().into(), half.into())
        } else {
            // All bits are given; the product must read the upper 19 only.
            (single.to_bits(), f32::from_bits(single.to_bits() & 0xFFFF_E000).into())
        }
    }

    fn fragment(&self, map: &[(usize, usize, &str, &str)], registers: usize, width: usize, values: &[f64]) -> Vec<u32> {
        let mut words = vec![0; 32 * registers];
        for lane in 0..32 {
            for &(register, half, row, column) in map {
                let value = values[place(row, lane) * width + place(column, lane)];
                words[lane * registers + register] |= self.encode(value).0 << (16 * half);
            }
        }
        words
    }

    /// The kernel's D for these row-major matrices.
    fn run(&self, machine_options: Options, a: &[f64], b: &[f64], c: &[f32]) -> Vec<f32> {
        let (ra, rb) = self.registers;
        let list = |name: &str, count: usize| (0..count).map(|i| format!("%{name}{i}")).collect::<Vec<_>>().join(", ");
        let load = |name: &str, from: &str, count: usize, ty: &str| {
            (0..count).map(|i| format!("ld.global.{ty} %{name}{i}, [%{from}+{}];\n", 4 * i)).collect::<String>()
        };
        let stores: String = (0..4).map(|i| format!("st.global.f32 [%pd+{}], %c{i};\n", 4 * i)).collect();
        let body = format!(
            ".reg .b64 %pa, %pb, %pc, %pd; .reg .b32 %lane, %a<4>, %b<2>; .reg .f32 %c<4>;
             ld.param.u64 %pa, [a]; ld.param.u64 %pb, [b]; ld.param.u64 %pc, [c]; ld.param.u64 %pd, [d];
             mov.u32 %lane, %laneid;
             mad.wide.u32 %pa, %lane, {}, %pa; mad.wide.u32 %pb, %lane, {}, %pb;
             mad.wide.u32 %pc, %lane, 16, %pc; mad.wide.u32 %pd, %lane, 16, %pd;
             {}{}{}
             mma.sync.aligned.{} {{{}}}, {{{}}}, {{{}}}, {{{}}};
             {stores}",
            4 * ra,
            4 * rb,
            load("a", "pa", ra, "b32"),
            load("b", "pb", rb, "b32"),
            load("c", "pc", 4, "f32"),
            self.shape,
            list("c", 4),
            list("a", ra),
            list("b", rb),
            list("c", 4)
        );
        let kernel = kernel("u64:a u64:b u64:c u64:d", &body);
        let mut machine = Machine::new(machine_options);
        let pa = upload(&mut machine, &self.fragment(self.a, ra, self.k, a));
        let pb = upload(&mut machine, &self.fragment(self.b, rb, 8, b));
        let fragment: Vec<f32> =
            (0..32).flat_map(|lane| C.map(|(_, row, column)| c[place(row, lane) * 8 + place(column, lane)])).collect();
        let pc = upload(&mut machine, &fragment);
        let pd = machine.alloc(512).expect("memory");
        let params = Params::default().u64(pa).u64(pb).u64(pc).u64(pd);
        launch(&mut machine, &kernel, 1, 32, 0, &params).unwrap_or_else(|fault| panic!("{fault}"));
        let words: Vec<f32> = download(&machine, pd, 128);
        let mut d = vec![0.0; 128];
        for lane in 0..32 {
            for (register, row, column) in C {
                d[place(row, lane) * 8 + place(column, lane)] = words[lane * 4 + register];
            }
        }
        d
    }
}

#[test]
fn every_single_precision_fragment_layout_gives_the_plain_product() {
    for product in [TF32_K8, TF32_K4, BF16_K16, BF16_K8, F16_K16, F16_K8] {
        let k = product.k;
        let (a, b) = (numbers(3, 16 * k), numbers(4, k * 8));
        let c: Vec<f32> = numbers(5, 128).iter().map(|&x| x as f32).collect();
        let found = product.run(options(0), &a, &b, &c);
        for row in 0..16 {
            for column in 0..8 {
                let sum = (0..k).fold(f64::from(c[row * 8 + column]), |sum, x| {
                    sum + product.encode(a[row * k + x]).1 * product.encode(b[x * 8 + column]).1
                });
                assert_eq!(found[row * 8 + column], sum as f32, "{} at {row}, {column}", product.shape);
            }
        }
    }
}

#[test]
fn accumulation_towards_zero_cuts_after_every_eight_products() {
    // 1 + 8 tiny products, each below half of the last place: nearest rounds once, towards zero loses each chunk.
    let tiny = f64::powi(2.0, -27);
    let mut a = vec![0.0; 256];
    a[..16].fill(1.0);
    let b = vec![tiny; 128];
    let c = vec![1f32; 128];
    // 16 * 2^-27 = 2^-23 is exactly one unit in the last place of 1.
    assert_eq!(BF16_K16.run(options(0), &a, &b, &c)[0], 1.0 + f32::EPSILON);
    assert_eq!(BF16_K16.run(towards_zero(), &a, &b, &c)[0], 1.0);
    let negative: Vec<f32> = c.iter().map(|x| -x).collect();
    let minus: Vec<f64> = b.iter().map(|x| -x).collect();
    assert_eq!(BF16_K16.run(towards_zero(), &a, &minus, &negative)[0], -1.0);
    // A sum of 1.75 units in the last place rounds to two units, or is cut to one.
    let b: Vec<f64> = (0..64).map(|_| 1.75 * f64::powi(2.0, -26)).collect();
    let mut a = vec![0.0; 128];
    a[..8].fill(1.0);
    assert_eq!(TF32_K8.run(options(0), &a, &b, &c)[0], 1.0 + 2.0 * f32::EPSILON);
    assert_eq!(TF32_K8.run(towards_zero(), &a, &b, &c)[0], 1.0 + f32::EPSILON);
}

#[test]
fn the_double_precision_fragments_give_a_chain_of_fused_multiply_adds() {
    let body = "
        .reg .b64 %pa, %pb, %pc, %pd; .reg .b32 %lane; .reg .f64 %a, %b, %c<2>;
        ld.param.u64 %pa, [a]; ld.param.u64 %pb, [b]; ld.param.u64 %pc, [c]; ld.param.u64 %pd, [d];
        mov.u32 %lane, %laneid;
        mad.wide.u32 %pa, %lane, 8, %pa; mad.wide.u32 %pb, %lane, 8, %pb;
        mad.wide.u32 %pc, %lane, 16, %pc; mad.wide.u32 %pd, %lane, 16, %pd;
        ld.global.f64 %a, [%pa]; ld.global.f64 %b, [%pb]; ld.global.v2.f64 {%c0, %c1}, [%pc];
        mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%c0, %c1}, {%a}, {%b}, {%c0, %c1};
        st.global.v2.f64 [%pd], {%c0, %c1};";
    let kernel = kernel("u64:a u64:b u64:c u64:d", body);
    let (a, b, c) = (numbers(6, 32), numbers(7, 32), numbers(8, 64));
    let lanes = || (0..32usize).map(|lane| (lane / 4, lane % 4));
    let fragment_a: Vec<f64> = lanes().map(|(g, t)| a[g * 4 + t]).collect();
    let fragment_b: Vec<f64> = lanes().map(|(g, t)| b[t * 8 + g]).collect();
    let fragment_c: Vec<f64> = lanes().flat_map(|(g, t)| [c[g * 8 + 2 * t], c[g * 8 + 2 * t + 1]]).collect();
    let mut machine = Machine::new(towards_zero());
    let pa = upload(&mut machine, &fragment_a);
    let pb = upload(&mut machine, &fragment_b);
    let pc = upload(&mut machine, &fragment_c);
    let pd = machine.alloc(512).expect("memory");
    let params = Params::default().u64(pa).u64(pb).u64(pc).u64(pd);
    let statistics = launch(&mut machine, &kernel, 1, 32, 0, &params).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(statistics.matrix_products, 1);
    let d: Vec<f64> = download(&machine, pd, 64);
    for (lane, (g, t)) in lanes().enumerate() {
        for j in 0..2 {
            let column = 2 * t + j;
            let expected = (0..4).fold(c[g * 8 + column], |sum, x| a[g * 4 + x].mul_add(b[x * 8 + column], sum));
            assert_eq!(d[2 * lane + j], expected, "row {g}, column {column}");
        }
    }
}

/// Loads `count` 8 x 8 matrices of 16-bit values, value 64 i + 8 row + column, through `ldmatrix`.
fn ldmatrix(count: usize, transpose: bool) -> Vec<u32> {
    let registers: Vec<String> = (0..count).map(|i| format!("%r{i}")).collect();
    let stores: String = (0..count).map(|i| format!("st.global.b32 [%out+{}], %r{i};\n", 4 * i)).collect();
    let body = format!(
        ".shared .align 16 .b8 tile[512];
         .reg .b64 %out; .reg .b32 %me, %at, %to, %v, %i, %r<4>; .reg .b16 %h; .reg .pred %p;
         ld.param.u64 %out, [out]; mov.u32 %me, %tid.x; mov.u32 %at, tile; mov.u32 %i, %me;
         FILL: shl.b32 %to, %i, 1; add.u32 %to, %to, %at; cvt.u16.u32 %h, %i; st.shared.u16 [%to], %h;
         add.u32 %i, %i, 32; setp.lt.u32 %p, %i, 256; @%p bra FILL;
         bar.warp.sync 0xffffffff;
         shl.b32 %to, %me, 4; add.u32 %to, %to, %at;
         ldmatrix.sync.aligned.m8n8.x{count}{}.shared.b16 {{{}}}, [%to];
         mad.wide.u32 %out, %me, {}, %out;\n{stores}",
        if transpose { ".trans" } else { "" },
        registers.join(", "),
        4 * count
    );
    let kernel = kernel("u64:out", &body);
    let mut machine = Machine::new(options(0));
    let out = machine.alloc(128 * count as u64).expect("memory");
    launch(&mut machine, &kernel, 1, 32, 0, &Params::default().u64(out)).unwrap_or_else(|fault| panic!("{fault}"));
    download(&machine, out, 32 * count)
}

#[test]
fn ldmatrix_hands_out_rows_or_columns() {
    for count in [1, 2, 4] {
        for transpose in [false, true] {
            let found = ldmatrix(count, transpose);
            for lane in 0..32 {
                for i in 0..count {
                    let (g, t) = (lane / 4, lane % 4);
                    let value = |row: usize, column: usize| (64 * i + 8 * row + column) as u32;
                    let (low, high) = match transpose {
                        false => (value(g, 2 * t), value(g, 2 * t + 1)),
                        true => (value(2 * t, g), value(2 * t + 1, g)),
                    };
                    assert_eq!(found[lane * count + i], low | high << 16, "x{count}, transposed {transpose}, lane {lane}");
                }
            }
        }
    }
}
