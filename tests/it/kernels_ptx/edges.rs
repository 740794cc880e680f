//! `edges_sm80` and `edges_rank_one_sm80` with slabs of more tokens than one sum takes.

use mechgraph::kernel::edges::{EdgeParams, RankOneParams};

use super::gram::Element;
use super::*;

/// More than one sum of 64 tokens.
const TOKENS: usize = 150;
const HIDDEN: usize = 3;
const K_IN: usize = 5;
const K_OUT: usize = 4;

/// Numbers `[rows, cols]` in the interpreter's memory and in f64.
fn input<T: Element>(device: &mut Device, rows: usize, cols: usize, seed: u64) -> (View, Vec<f64>) {
    let values: Vec<T> = numbers(rows * cols, seed).iter().map(|x| T::of(*x)).collect();
    (device.input(&values, cols, cols + 1, 1), values.iter().map(|x| x.wide()).collect())
}

fn found<T: Element>(device: &Device, partials: &View) -> Vec<f64> {
    device.read::<T>(partials).iter().map(|x| x.wide()).collect()
}

fn squares<T: Element>() {
    let kernel = kernel("edges_sm80");
    for configuration in (kernel.configurations)().iter().filter(|c| c.name.contains(T::NAME)) {
        let gates = constant(configuration, "GATES");
        for order in ORDERS {
            let mut device = Device::new(order);
            let (d, ds) = input::<T>(&mut device, TOKENS, gates * HIDDEN, 1);
            let (f, fs) = input::<T>(&mut device, TOKENS, K_IN, 2);
            let (u, us) = input::<T>(&mut device, gates * HIDDEN, K_IN, 3);
            let (v, vs) = input::<T>(&mut device, HIDDEN, K_OUT, 4);
            let (b, bs) = input::<T>(&mut device, K_IN, K_OUT, 5);
            let partials = device.output::<T>(K_OUT, K_IN, K_IN, 0);
            let params = EdgeParams {
                d: d.address,
                f: f.address,
                u: u.address,
                v: v.address,
                b: b.address,
                partials: partials.address,
                n: TOKENS as u32,
                hidden: HIDDEN as u32,
                k_in: K_IN as u32,
                k_out: K_OUT as u32,
                d_stride: d.stride as u32,
                f_stride: f.stride as u32,
                u_stride: u.stride as u32,
                v_stride: v.stride as u32,
                b_stride: b.stride as u32,
                slab_tokens: 160,
            };
            let text = Text::of(kernel, configuration);
            let statistics = device.launch(&text, [1, 1, 1], &params).unwrap();
            device.only::<T>("partials", &partials, |_, _| true).unwrap();
            let jacobian = |t: usize, i: usize, j: usize| {
                let unit = |h: usize| {
                    let gate = |g: usize| ds[(t * gates + g) * HIDDEN + h] * us[(g * HIDDEN + h) * K_IN + j];
                    (0..gates).map(gate).sum::<f64>() * vs[h * K_OUT + i]
                };
                (0..HIDDEN).map(unit).sum::<f64>() + bs[j * K_OUT + i]
            };
            let edge = |i: usize, j: usize| (0..TOKENS).map(|t| (fs[t * K_IN + j] * jacobian(t, i, j)).powi(2)).sum::<f64>();
            let expected: Vec<f64> = (0..K_OUT * K_IN).map(|e| edge(e / K_IN, e % K_IN)).collect();
            close(&configuration.name, &found::<T>(&device, &partials), &expected, T::BOUND).unwrap();
            no_bank_conflicts(&statistics).unwrap();
        }
    }
}

fn rank_ones<T: Element>() {
    let kernel = kernel("edges_rank_one_sm80");
    for configuration in (kernel.configurations)().iter().filter(|c| c.name.contains(T::NAME)) {
        let mut device = Device::new(ORDERS[0]);
        let (f, fs) = input::<T>(&mut device, TOKENS, K_IN, 1);
        let (s, ss) = input::<T>(&mut device, TOKENS, 1, 2);
        let (g, gs) = input::<T>(&mut device, TOKENS, 1, 3);
        let (l, ls) = input::<T>(&mut device, TOKENS, K_IN, 4);
        let (y, ys) = input::<T>(&mut device, 1, K_OUT, 5);
        let (z1, ones) = input::<T>(&mut device, K_IN, K_OUT, 6);
        let (z0, zeros) = input::<T>(&mut device, K_IN, K_OUT, 7);
        let partials = device.output::<T>(K_OUT, K_IN, K_IN, 0);
        let params = RankOneParams {
            f: f.address,
            s: s.address,
            g: g.address,
            l: l.address,
            y: y.address,
            z1: z1.address,
            z0: z0.address,
            partials: partials.address,
            n: TOKENS as u32,
            k_in: K_IN as u32,
            k_out: K_OUT as u32,
            f_stride: f.stride as u32,
            s_stride: s.stride as u32,
            g_stride: g.stride as u32,
            l_stride: l.stride as u32,
            y_stride: 0,
            z_stride: z1.stride as u32,
            slab_tokens: 160,
        };
        device.launch(&Text::of(kernel, configuration), [1, 1, 1], &params).unwrap();
        device.only::<T>("partials", &partials, |_, _| true).unwrap();
        let jacobian =
            |t: usize, i: usize, j: usize| ss[t] * ones[j * K_OUT + i] + zeros[j * K_OUT + i] + gs[t] * ls[t * K_IN + j] * ys[i];
        let edge = |i: usize, j: usize| (0..TOKENS).map(|t| (fs[t * K_IN + j] * jacobian(t, i, j)).powi(2)).sum::<f64>();
        let expected: Vec<f64> = (0..K_OUT * K_IN).map(|e| edge(e / K_IN, e % K_IN)).collect();
        close(&configuration.name, &found::<T>(&device, &partials), &expected, T::BOUND).unwrap();
    }
}

#[test]
fn squared_edges_of_long_slabs_are_promoted() {
    squares::<f32>();
    squares::<f64>();
}

#[test]
fn rank_one_edges_of_long_slabs_are_promoted() {
    rank_ones::<f32>();
    rank_ones::<f64>();
}
