//! What the CUDA backend promises above its driver: order, errors, captured graphs, memory.

use mechgraph::device::cuda::{Call, Lane};
use mechgraph::device::driver::Shape;
use mechgraph::device::{Cuda, DType, Tensor};
use mechgraph::kernel::params::Params;
use mechgraph::kernel::{Configuration, Constants, Kernel, Language};
use ptxvm::{Completion, Options};

use crate::command::failure;

/// y[i] += x[i] for `n` f32.
const ADD: &str = "
.version 7.0
.target sm_80
.address_size 64
.visible .entry add(.param .align 8 .b8 params[24])
{
    .reg .b64 %x, %y, %at;
    .reg .b32 %n, %i, %cta, %threads;
    .reg .f32 %a, %b;
    .reg .pred %outside;
    ld.param.u64 %x, [params];
    ld.param.u64 %y, [params+8];
    ld.param.u32 %n, [params+16];
    mov.u32 %i, %tid.x;
    mov.u32 %cta, %ctaid.x;
    mov.u32 %threads, %ntid.x;
    mad.lo.u32 %i, %cta, %threads, %i;
    setp.ge.u32 %outside, %i, %n;
    @%outside bra done;
    mul.wide.u32 %at, %i, 4;
    add.u64 %x, %x, %at;
    add.u64 %y, %y, %at;
    ld.global.f32 %a, [%x];
    ld.global.f32 %b, [%y];
    add.rn.f32 %b, %a, %b;
    st.global.f32 [%y], %b;
done:
    ret;
}
";

#[repr(C)]
#[derive(Clone, Copy)]
struct AddParams {
    x: u64,
    y: u64,
    n: u32,
}

impl Params for AddParams {
    const FIELDS: &'static [mechgraph::kernel::Field] = &[];

    fn bytes(&self) -> Vec<u8> {
        [&self.x.to_le_bytes()[..], &self.y.to_le_bytes(), &self.n.to_le_bytes(), &[0; 4]].concat()
    }
}

fn kernel(source: &'static str) -> Kernel {
    let params = AddParams::FIELDS;
    Kernel { name: "add", operation: "add", language: Language::SM80, source, params, configurations: Vec::new }
}

fn configuration() -> Configuration {
    Configuration { name: "64".into(), constants: Constants::default(), threads: 64, shared: 0 }
}

fn open(completion: Completion) -> Cuda {
    Cuda::interpreter(Options { completion, memory: 64 << 20, ..Options::default() }).unwrap()
}

fn add(cuda: &Cuda, x: u64, y: u64, n: u32) -> Call {
    let params = AddParams { x, y, n };
    cuda.call(&kernel(ADD), &configuration(), [n.div_ceil(64), 1, 1], &params).unwrap()
}

fn read(lane: &mut Lane, from: u64, n: usize) -> Vec<f32> {
    let mut bytes = vec![0; 4 * n];
    lane.download(from, &mut bytes).unwrap();
    bytemuck::pod_collect_to_vec(&bytes)
}

#[test]
fn uploads_launches_and_reads_keep_their_order() {
    for completion in [Completion::Late, Completion::Early] {
        let cuda = open(completion);
        let mut lane = Lane::new(&cuda).unwrap();
        let memory = cuda.alloc(2 << 20).unwrap();
        let (x, y) = (memory.address, memory.address + (1 << 20));
        let add = [add(&cuda, x, y, 1000)];
        lane.upload(y, bytemuck::cast_slice(&[1.0f32; 1000])).unwrap();
        // Each upload overwrites what the launch before it still has to read.
        for i in 0..5 {
            lane.upload(x, bytemuck::cast_slice(&[i as f32; 1000])).unwrap();
            lane.issue(&add).unwrap();
        }
        assert_eq!(read(&mut lane, y, 1000), [11.0; 1000]);
    }
}

#[test]
fn an_upload_larger_than_its_staging_arrives_whole() {
    let cuda = open(Completion::Late);
    let mut lane = Lane::new(&cuda).unwrap();
    let numbers: Vec<f32> = (0..(13 << 20) / 4 + 3).map(|i| i as f32).collect();
    let memory = cuda.alloc(4 * numbers.len() as u64).unwrap();
    lane.upload(memory.address, bytemuck::cast_slice(&numbers)).unwrap();
    assert!(read(&mut lane, memory.address, numbers.len()) == numbers);
}

#[test]
fn a_captured_batch_runs_again_each_time_it_is_replayed() {
    let cuda = open(Completion::Late);
    let mut lane = Lane::new(&cuda).unwrap();
    let memory = cuda.alloc(4096).unwrap();
    let (x, y) = (memory.address, memory.address + 2048);
    lane.upload(x, bytemuck::cast_slice(&[2.0f32; 100])).unwrap();
    lane.upload(y, bytemuck::cast_slice(&[0.0f32; 100])).unwrap();
    let replay = lane.capture(&[add(&cuda, x, y, 100), add(&cuda, y, x, 100)]).unwrap();
    assert_eq!(read(&mut lane, y, 100), [0.0; 100], "a capture runs nothing");
    for _ in 0..3 {
        lane.replay(&replay).unwrap();
    }
    // (x, y): (2, 0) (4, 2) (10, 6) (26, 16)
    assert_eq!(read(&mut lane, y, 100), [16.0; 100]);
}

#[test]
fn a_weight_leaves_the_device_after_its_last_handle() {
    let cuda = open(Completion::Late);
    let mut lane = Lane::new(&cuda).unwrap();
    let weight = |value: f64| Tensor::row(DType::F32, vec![value; 1 << 16]);
    let kept = weight(7.0);
    let address = cuda.tensor(&kept, &mut lane).unwrap();
    let free = cuda.free_memory().unwrap();
    for i in 0..10 {
        cuda.tensor(&weight(f64::from(i)), &mut lane).unwrap();
        assert_eq!(cuda.free_memory().unwrap(), free - kept.bytes(), "one of those that come and go at a time");
    }
    assert_eq!(cuda.tensor(&kept.clone(), &mut lane).unwrap(), address);
    assert_eq!(read(&mut lane, address, 3), [7.0; 3]);
}

#[test]
fn a_text_that_the_driver_refuses_comes_back_with_its_log() {
    let cuda = open(Completion::Late);
    let broken = kernel("\n.version 7.0\n.target sm_80\n.address_size 64\n.visible .entry add()\n{\n    frobnicate.f32 %a;\n}\n");
    let error = cuda.function(&broken, &configuration()).unwrap_err().to_string();
    assert!(error.contains("kernel add@64") && error.contains("frobnicate") && error.contains("line 7"), "{error}");
}

#[test]
fn a_kernel_that_leaves_its_buffer_is_named_with_its_launch() {
    let cuda = open(Completion::Late);
    let mut lane = Lane::new(&cuda).unwrap();
    let (x, y) = (cuda.alloc(400).unwrap(), cuda.alloc(400).unwrap());
    lane.upload(x.address, &[0; 400]).unwrap();
    lane.upload(y.address, &[0; 400]).unwrap();
    lane.issue(&[add(&cuda, x.address, y.address, 101)]).unwrap();
    let error = lane.synchronize().unwrap_err().to_string();
    assert!(error.contains("add") && error.contains("ld.global.f32 %a, [%x]"), "{error}");
    // As on a GPU, nothing works on a device after a fault.
    assert!(lane.upload(x.address, &[0; 4]).is_err() && cuda.alloc(4).is_err());
}

#[test]
fn memory_that_is_not_there_is_refused_with_numbers() {
    let cuda = open(Completion::Late);
    let error = cuda.alloc(1 << 40).unwrap_err().to_string();
    assert!(error.contains("allocating 1099511627776 bytes") && error.contains("are free"), "{error}");
}

#[test]
fn a_launch_of_an_illegal_shape_fails() {
    let cuda = open(Completion::Early);
    let mut lane = Lane::new(&cuda).unwrap();
    let memory = cuda.alloc(400).unwrap();
    let mut call = add(&cuda, memory.address, memory.address, 1);
    call.shape = Shape { block: [2048, 1, 1], ..call.shape };
    let error = lane.issue(&[call]).unwrap_err().to_string();
    assert!(error.contains("block [2048, 1, 1]"), "{error}");
}

#[test]
fn without_a_driver_the_backend_says_so() {
    if Cuda::open(mechgraph::device::DriverChoice::Nvidia, 0).is_ok() {
        println!("skipped: cuda absent driver: this machine has an NVIDIA GPU");
        return;
    }
    let sentence = failure(&["eval", "demo:modadd", "--backend", "cuda", "--quiet"]);
    assert!(sentence.starts_with("backend cuda: ") && sentence.contains("driver"), "{sentence}");
}
