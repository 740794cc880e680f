// A library with the driver's functions that the engine calls, for tests of what it makes of their
// answers. Device memory is host memory; kernels are accepted and do nothing. The environment variable
// FAKE_CUDA names the fault to play; built with -DOLD it has the functions of an old driver alone.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int result;
enum { OK = 0, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_PTX = 218, ILLEGAL_ADDRESS = 700 };

static int plays(const char *fault) {
    const char *played = getenv("FAKE_CUDA");
    return played && !strcmp(played, fault);
}

result cuInit(unsigned flags) { return plays("no device") ? NO_DEVICE : OK; }
result cuDriverGetVersion(int *version) { *version = 12040; return OK; }

#ifndef OLD
static int launched;
// A fault of a kernel shows at the next wait and stays.
static result state(void) { return launched && plays("lost") ? ILLEGAL_ADDRESS : OK; }

result cuDeviceGetCount(int *count) { *count = plays("none") ? 0 : 1; return OK; }
result cuDeviceGet(int *device, int ordinal) { *device = ordinal; return OK; }
result cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Fake GPU", length); return OK; }
result cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 16: *value = 132; break;                      // multiprocessors
    case 38: *value = 50 << 20; break;                 // bytes of the second-level cache
    case 75: *value = plays("turing") ? 7 : 9; break;  // compute capability
    case 76: *value = plays("turing") ? 5 : 0; break;
    case 97: *value = 232448; break;                   // shared memory of a CTA
    default: return 1;
    }
    return OK;
}
result cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)64; return OK; }
result cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
result cuCtxSetCurrent(void *context) { return context == (void *)64 ? OK : 201; }
result cuGetErrorName(result code, const char **text) {
    *text = code == OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : code == NO_DEVICE       ? "CUDA_ERROR_NO_DEVICE"
            : code == INVALID_PTX     ? "CUDA_ERROR_INVALID_PTX"
            : code == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                      : 0;
    return *text ? OK : 1;
}
result cuGetErrorString(result code, const char **text) { *text = "as the driver puts it"; return OK; }
result cuMemGetInfo_v2(size_t *free, size_t *total) { *free = plays("full") ? 4096 : 1 << 30; *total = 1 << 30; return OK; }
result cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    if (plays("no memory")) return OUT_OF_MEMORY;
    size_t size = (bytes + 255) / 256 * 256;
    *address = (uint64_t)memset(aligned_alloc(256, size), 0, size);
    return OK;
}
result cuMemFree_v2(uint64_t address) { free((void *)address); return OK; }
result cuMemHostAlloc(void **address, size_t bytes, unsigned flags) { *address = malloc(bytes); return OK; }
result cuMemFreeHost(void *address) { free(address); return OK; }
result cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) { memcpy((void *)to, from, bytes); return OK; }
result cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) { memcpy(to, (void *)from, bytes); return OK; }
result cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) { memcpy((void *)to, (void *)from, bytes); return OK; }
result cuMemsetD8Async(uint64_t to, unsigned char byte, size_t bytes, void *stream) { memset((void *)to, byte, bytes); return OK; }
result cuModuleLoadDataEx(void **module, const char *text, unsigned count, int *options, void **values) {
    if (plays("refuses")) {
        // Options 5 and 6: the error log and its size.
        const char *log = "ptxas application ptx input, line 7; error : Unknown symbol 'frobnicate'";
        for (unsigned i = 0; i < count; i++)
            if (options[i] == 5) strcpy(values[i], log);
        return INVALID_PTX;
    }
    *module = strstr(text, ".visible .entry") ? (void *)text : 0;
    return *module ? OK : INVALID_PTX;
}
result cuModuleUnload(void *module) { return OK; }
result cuModuleGetFunction(void **function, void *module, const char *name) { *function = (void *)128; return OK; }
result cuFuncGetAttribute(int *value, int attribute, void *function) { *value = 1; return OK; }
result cuFuncSetAttribute(void *function, int attribute, int value) { return attribute == 8 ? OK : 1; }
result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                      void *stream, void **params, void **extra) {
    launched = 1;
    return function == (void *)128 && params[0] ? OK : 1;
}
result cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); return flags == 1 ? OK : 1; }
result cuStreamDestroy_v2(void *stream) { free(stream); return OK; }
result cuStreamSynchronize(void *stream) { return state(); }
result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return OK; }
result cuEventCreate(void **event, unsigned flags) { *event = malloc(1); return OK; }
result cuEventDestroy_v2(void *event) { free(event); return OK; }
result cuEventRecord(void *event, void *stream) { return OK; }
result cuEventSynchronize(void *event) { return state(); }
result cuEventElapsedTime(float *milliseconds, void *from, void *to) { *milliseconds = 1; return OK; }
result cuStreamBeginCapture_v2(void *stream, int mode) { return OK; }
result cuStreamEndCapture(void *stream, void **graph) { *graph = (void *)192; return OK; }
result cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) { *executable = (void *)193; return OK; }
result cuGraphDestroy(void *graph) { return graph == (void *)192 ? OK : 1; }
result cuGraphLaunch(void *executable, void *stream) { return executable == (void *)193 ? OK : 1; }
result cuGraphExecDestroy(void *executable) { return OK; }
#endif
