//! What a pass on a device promises beside its numbers: it can be taken up again, fits into the memory
//! that was checked, and leaves zeros where the host's operations do.

use std::path::Path;
use std::time::Duration;

use mechgraph::data::checkpoint::Checkpoints;
use mechgraph::data::stream::{self, Input, Pass, Read, Runner, Sum};
use mechgraph::data::{DataSet, Samples};
use mechgraph::device::{Builder, Cpu, Cuda, DType, Device, Elements, MappedFile, Placement, Stored, Tensor};
use mechgraph::model::forward::Batch;
use mechgraph::ops::linear::{self, Matrix};
use mechgraph::ops::{Launch, gram, offload};
use mechgraph::progress::{Mode, Progress};
use ptxvm::Options;

use super::{on_every_backend, rounded, run};
use crate::common::{numbers, of_samples};

/// Samples of a block of inputs.
const BLOCK: usize = 512;

fn inputs(n: usize, width: usize) -> DataSet {
    of_samples(Samples::Inputs { x: numbers(n * width, 1), n, width })
}

/// A linear map with weights `w`, and the Gram matrix of what it gives.
fn pass(batch: Batch, w: &Tensor) -> Pass {
    let mut b = Builder::<Launch>::new(DType::F32);
    let (x, y) = (b.matrix(batch.samples, w.rows), b.matrix(batch.samples, w.cols));
    let (mean, m2) = (b.matrix(1, w.cols), b.matrix(w.cols, w.cols));
    b.push(Launch::Linear(linear::Args::new(x, Matrix::whole(w), y)));
    b.push(Launch::Gram(gram::Args { x: y, mean, m2 }));
    let reads = vec![Read::Centred { rows: batch.samples, mean, m2 }];
    Pass { program: b.finish(), input: Input::Values(x), reads, labels: None, first: None }
}

fn weights(rows: usize, cols: usize) -> Tensor {
    Tensor::from_f64(DType::F32, rows, cols, numbers(rows * cols, 2))
}

fn sums(device: &Device, data: &DataSet, w: &Tensor, checkpoints: Option<Checkpoints>) -> mechgraph::Result<Vec<Sum>> {
    let progress = Progress::new(Mode::Quiet);
    let runner = Runner { device, progress: &progress, batch: Some(1), memory: u64::MAX, checkpoints };
    stream::run(&runner, "moments", data, |batch| Ok(pass(batch, w)))
}

/// A device played by the interpreter with that much memory, beside two threads of the host.
fn of_memory(memory: u64) -> Device {
    let cuda = Cuda::interpreter(Options { memory, ..Options::default() }).unwrap();
    Device::Cuda { gpus: cuda.into(), host: Cpu::new(2).unwrap(), placement: Placement::default() }
}

on_every_backend! {
    fn a_pass_taken_up_again_gives_the_same_bytes_and_names_the_same_operations(backend: Backend) {
        let (data, w, folder) = (inputs(2 * BLOCK + 76, 6), weights(6, 9), tempfile::tempdir().unwrap());
        let open = || backend.open().unwrap();
        let device = open();
        let whole = sums(&device, &data, &w, None).unwrap();
        let points = || Some(Checkpoints { folder: folder.path().into(), every: Duration::ZERO });
        sums(&open(), &data.clone().first(BLOCK), &w, points()).unwrap();
        // Once with two blocks left, once with none.
        for _ in 0..2 {
            let later = open();
            let again = sums(&later, &data, &w, points()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{whole:?}"), "{backend:?}");
            assert_eq!(later.placed(), device.placed(), "{backend:?}");
        }
    }
    fn a_gram_matrix_in_the_place_of_other_numbers_is_zero_above_its_diagonal(backend: Backend) {
        let (n, d) = (20, 6);
        let mut b = Builder::<Launch>::new(DType::F32);
        let (x, z, mean, m2) = (b.matrix(n, d), b.matrix(d, 5), b.matrix(1, d), b.matrix(d, d));
        let gram = || Launch::Gram(gram::Args { x, mean, m2 });
        b.push(gram());
        b.push(Launch::Linear(linear::Args::new(z, Matrix::whole(&weights(5, d)), m2)));
        b.push(gram());
        let given = [(x, rounded(DType::F32, n * d, 3)), (z, rounded(DType::F32, d * 5, 4))];
        let arena = run::<f32>(backend, &b.finish(), &given, &[m2]);
        let found = arena.real(m2.buffer);
        assert!((0..d * d).all(|e| (found[e] == 0.0) == (e % d > e / d)), "{backend:?}: {found:?}");
    }
    fn a_weight_in_a_file_gives_the_bits_of_one_in_memory(backend: Backend) {
        let (n, k, m) = (33, 20, 70);
        for stored in [Stored::F16, Stored::BF16, Stored::F32, Stored::F64] {
            let mapped = in_file(k, m, stored);
            let owned = Tensor::from_f64(DType::F32, k, m, mapped.to_f64());
            let times = |w: &Tensor| {
                let mut b = Builder::<Launch>::new(DType::F32);
                let (x, y) = (b.matrix(n, k), b.matrix(n, m));
                b.push(Launch::Linear(linear::Args::new(x, Matrix::whole(w), y)));
                let given = [(x, rounded(DType::F32, n * k, 3))];
                run::<f32>(backend, &b.finish(), &given, &[y]).real(y.buffer).to_vec()
            };
            assert_eq!(times(&mapped), times(&owned), "{backend:?} {stored:?}");
        }
    }
}

/// Numbers in a file from an odd byte on, for programs in f32.
fn in_file(rows: usize, cols: usize, stored: Stored) -> Tensor {
    let mut bytes = vec![0u8];
    for x in numbers(rows * cols, 2) {
        match stored {
            Stored::F64 => bytes.extend(x.to_le_bytes()),
            Stored::F32 => bytes.extend((x as f32).to_le_bytes()),
            Stored::F16 => bytes.extend(half::f16::from_f64(x).to_le_bytes()),
            Stored::BF16 => bytes.extend(half::bf16::from_f64(x).to_le_bytes()),
        }
    }
    let file = MappedFile::from_static(Path::new("w"), bytes.leak());
    Tensor::mapped(DType::F32, rows, cols, Elements::new(&file, 1, rows * cols, stored))
}

#[test]
fn a_plan_counts_the_weights_and_the_arena_of_a_ragged_block() {
    let (data, w) = (inputs(BLOCK + 64, 256), weights(256, 64));
    let arena = |samples| offload::device_bytes(&of_memory(1 << 30), &pass(Batch { samples, positions: 1 }, &w).program);
    let need = arena(BLOCK) + arena(64) + w.bytes();
    let mapped = in_file(256, 64, Stored::BF16);
    let on_device = |w| offload::weight_bytes(&of_memory(1 << 30), &pass(Batch { samples: BLOCK, positions: 1 }, w).program);
    assert_eq!((on_device(&w), on_device(&mapped), mapped.bytes()), (w.bytes(), w.bytes(), 0));
    for memory in [arena(BLOCK) + 1, need - 256] {
        let refused = sums(&of_memory(memory), &data, &w, None).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("memory: the plan needs {need} bytes on PTX interpreter")), "{refused}");
    }
    // Two threads take turns in the one arena that there is memory for.
    let tight = sums(&of_memory(need), &data, &w, None).unwrap();
    assert_eq!(format!("{tight:?}"), format!("{:?}", sums(&of_memory(1 << 30), &data, &w, None).unwrap()));
}

#[test]
fn a_plan_counts_the_staging_memory_of_the_host() {
    let (data, w, progress) = (inputs(BLOCK, 6), weights(6, 9), Progress::new(Mode::Quiet));
    let check = |device: &Device| {
        let runner = Runner { device, progress: &progress, batch: None, memory: 8 << 20, checkpoints: None };
        stream::check(&runner, "moments", &data, |batch| Ok(pass(batch, &w)))
    };
    check(&Device::Cpu(Cpu::new(2).unwrap())).unwrap();
    let refused = check(&of_memory(1 << 30)).unwrap_err().to_string();
    assert!(refused.starts_with("memory: the plan needs 126"), "12 MiB and little beside it: {refused}");
}
