//! The driver's functions that the engine calls, all looked up when the driver is opened.
//!
//! cudarc's own bindings look a function up when it is first called, panic where it is missing, and
//! give the result as a Rust enum, for which the codes that a newer driver has added are undefined
//! behaviour. Of cudarc this takes the library and the types of the arguments; results are numbers.
//! All that is called here is what puts a code into words.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_uint, c_ulonglong, c_void};
use std::ptr;

use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction, CUfunction_attribute, CUgraph, CUgraphExec,
    CUjit_option, CUmodule, CUresult, CUstream, CUstreamCaptureMode,
};

/// What a function returns: 0, or the number of an error.
pub type Code = c_uint;

macro_rules! functions {
    ($(fn $name:ident($($arg:ty),*);)* as numbers: $(fn $by_code:ident($($by_code_arg:ty),*);)*) => {
        /// Pointers to the functions, which stay loaded to the end of the process.
        #[derive(Clone, Copy, Debug)]
        #[allow(non_snake_case)]
        pub struct Functions {
            $(pub $name: unsafe extern "C" fn($($arg),*) -> Code,)*
            $($by_code: unsafe extern "C" fn($($by_code_arg),*) -> Code,)*
        }

        impl Functions {
            /// Looks all of them up; fails with the name of the first that the driver lacks.
            ///
            /// # Safety
            /// The library must be present, and it must be the driver.
            pub unsafe fn load() -> Result<Self, &'static str> {
                // SAFETY: the library is present, so `culib` does not panic. The types of the fields are those
                // of the bindings (checked below) but for codes, 32 bits that are read as a number.
                unsafe {
                    Ok(Self {
                        $($name: find(stringify!($name))?,)*
                        $($by_code: find(stringify!($by_code))?,)*
                    })
                }
            }
        }

        // cudarc's bindings are made from NVIDIA's headers: another argument here is an error of types.
        const _: () = {
            $(let _: unsafe fn($($arg),*) -> CUresult = sys::$name;)*
        };
    };
}

/// Looks up a function of the type `F`.
///
/// # Safety
/// The library must be present, and `F` the type of the function.
unsafe fn find<F: Copy>(name: &'static str) -> Result<F, &'static str> {
    let symbol = CString::new(name).map_err(|_| name)?;
    // SAFETY: what the caller vouches for.
    unsafe { sys::culib().get::<F>(symbol.as_bytes_with_nul()).map(|f| *f).map_err(|_| name) }
}

functions! {
    fn cuInit(c_uint);
    fn cuDriverGetVersion(*mut c_int);
    fn cuDeviceGetCount(*mut c_int);
    fn cuDeviceGet(*mut CUdevice, c_int);
    fn cuDeviceGetName(*mut c_char, c_int, CUdevice);
    fn cuDeviceGetAttribute(*mut c_int, CUdevice_attribute, CUdevice);
    fn cuDevicePrimaryCtxRetain(*mut CUcontext, CUdevice);
    fn cuDevicePrimaryCtxRelease_v2(CUdevice);
    fn cuCtxSetCurrent(CUcontext);
    fn cuMemGetInfo_v2(*mut usize, *mut usize);
    fn cuMemAlloc_v2(*mut CUdeviceptr, usize);
    fn cuMemFree_v2(CUdeviceptr);
    fn cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    fn cuMemFreeHost(*mut c_void);
    fn cuMemcpyHtoDAsync_v2(CUdeviceptr, *const c_void, usize, CUstream);
    fn cuMemcpyDtoHAsync_v2(*mut c_void, CUdeviceptr, usize, CUstream);
    fn cuMemcpyDtoDAsync_v2(CUdeviceptr, CUdeviceptr, usize, CUstream);
    fn cuMemsetD8Async(CUdeviceptr, c_uchar, usize, CUstream);
    fn cuModuleLoadDataEx(*mut CUmodule, *const c_void, c_uint, *mut CUjit_option, *mut *mut c_void);
    fn cuModuleUnload(CUmodule);
    fn cuModuleGetFunction(*mut CUfunction, CUmodule, *const c_char);
    fn cuFuncGetAttribute(*mut c_int, CUfunction_attribute, CUfunction);
    fn cuFuncSetAttribute(CUfunction, CUfunction_attribute, c_int);
    fn cuLaunchKernel(
        CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CUstream, *mut *mut c_void, *mut *mut c_void
    );
    fn cuStreamCreate(*mut CUstream, c_uint);
    fn cuStreamDestroy_v2(CUstream);
    fn cuStreamSynchronize(CUstream);
    fn cuStreamWaitEvent(CUstream, CUevent, c_uint);
    fn cuEventCreate(*mut CUevent, c_uint);
    fn cuEventDestroy_v2(CUevent);
    fn cuEventRecord(CUevent, CUstream);
    fn cuEventSynchronize(CUevent);
    fn cuEventElapsedTime(*mut f32, CUevent, CUevent);
    fn cuStreamBeginCapture_v2(CUstream, CUstreamCaptureMode);
    fn cuStreamEndCapture(CUstream, *mut CUgraph);
    fn cuGraphInstantiateWithFlags(*mut CUgraphExec, CUgraph, c_ulonglong);
    fn cuGraphDestroy(CUgraph);
    fn cuGraphLaunch(CUgraphExec, CUstream);
    fn cuGraphExecDestroy(CUgraphExec);
    // The bindings of these take a code as an enum.
    as numbers:
    fn cuGetErrorName(Code, *mut *const c_char);
    fn cuGetErrorString(Code, *mut *const c_char);
}

impl Functions {
    /// What the driver calls a code and says of it: `CUDA_ERROR_OUT_OF_MEMORY (out of memory)`; its
    /// number where the driver does not know it.
    pub fn describe(&self, code: Code) -> String {
        let text = |f: unsafe extern "C" fn(Code, *mut *const c_char) -> Code| {
            let mut text = ptr::null();
            // SAFETY: the driver points `text` at a static string or leaves it null.
            unsafe {
                let known = f(code, &mut text) == 0 && !text.is_null();
                known.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
            }
        };
        let name = text(self.cuGetErrorName).unwrap_or_else(|| format!("code {code}"));
        text(self.cuGetErrorString).map_or(name.clone(), |meaning| format!("{name} ({meaning})"))
    }
}
