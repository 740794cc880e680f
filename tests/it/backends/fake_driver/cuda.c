// A library with the driver's functions that the engine calls, for tests of what it makes of their
// answers. Device memory is host memory; kernels are accepted and do nothing. The environment variable
// FAKE_CUDA names the fault to play; built with -DOLD it has the functions of an old driver alone. What
// was made and not given back when the context is released is told on stderr, and so is a call on a
// thread that has no context.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int result;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, INVALID_PTX = 218 };
enum { ILLEGAL_ADDRESS = 700, STREAM_DETACHED = 917 };

static int plays(const char *fault) {
    const char *played = getenv("FAKE_CUDA");
    return played && !strcmp(played, fault);
}

result cuInit(unsigned flags) { return plays("no device") ? NO_DEVICE : OK; }
result cuDriverGetVersion(int *version) { *version = 12040; return OK; }

#ifndef OLD
static int launched, live;
static __thread void *current;
// Calls that need a context; `change` is what they add to the things made.
static result with_context(const char *call, int change) {
    if (current != (void *)64) {
        fprintf(stderr, "%s on a thread without a context\n", call);
        return INVALID_CONTEXT;
    }
    __atomic_add_fetch(&live, change, __ATOMIC_SEQ_CST);
    return OK;
}
#define NEEDS_CONTEXT(change) \
    do { \
        result in_context = with_context(__func__, change); \
        if (in_context) return in_context; \
    } while (0)
// Whether the `n`-th call from here is the one that fails.
static int is_call(const char *fault, int *calls, int n) {
    return plays(fault) && __atomic_add_fetch(calls, 1, __ATOMIC_SEQ_CST) == n;
}
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
result cuDevicePrimaryCtxRelease_v2(int device) {
    if (live) fprintf(stderr, "%d things were not given back\n", live);
    return OK;
}
result cuCtxSetCurrent(void *context) { current = context; return context == (void *)64 ? OK : INVALID_CONTEXT; }
result cuGetErrorName(result code, const char **text) {
    *text = code == OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : code == NO_DEVICE       ? "CUDA_ERROR_NO_DEVICE"
            : code == INVALID_PTX     ? "CUDA_ERROR_INVALID_PTX"
            : code == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                      : 0;
    return *text ? OK : INVALID_VALUE;
}
result cuGetErrorString(result code, const char **text) {
    *text = code == STREAM_DETACHED ? 0 : "as the driver puts it";
    return *text ? OK : INVALID_VALUE;
}
result cuMemGetInfo_v2(size_t *free, size_t *total) {
    NEEDS_CONTEXT(0);
    *free = plays("full") ? 4096 : 1 << 30;
    *total = 1 << 30;
    return OK;
}
result cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    if (plays("no memory")) return OUT_OF_MEMORY;
    if (plays("newer")) return STREAM_DETACHED;
    NEEDS_CONTEXT(1);
    size_t size = (bytes + 255) / 256 * 256;
    *address = (uint64_t)memset(aligned_alloc(256, size), 0, size);
    return OK;
}
result cuMemFree_v2(uint64_t address) { NEEDS_CONTEXT(-1); free((void *)address); return OK; }
result cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
    static int calls;
    if (is_call("little staging", &calls, 3)) return OUT_OF_MEMORY;
    NEEDS_CONTEXT(1);
    *address = malloc(bytes);
    return OK;
}
result cuMemFreeHost(void *address) { NEEDS_CONTEXT(-1); free(address); return OK; }
result cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    NEEDS_CONTEXT(0);
    memcpy((void *)to, from, bytes);
    return OK;
}
result cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    NEEDS_CONTEXT(0);
    memcpy(to, (void *)from, bytes);
    return OK;
}
result cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    NEEDS_CONTEXT(0);
    memcpy((void *)to, (void *)from, bytes);
    return OK;
}
result cuMemsetD8Async(uint64_t to, unsigned char byte, size_t bytes, void *stream) {
    NEEDS_CONTEXT(0);
    memset((void *)to, byte, bytes);
    return OK;
}
// Writes a log as the driver does: what does not fit is cut, and then no zero is behind it.
static void write_log(const char *log, unsigned count, int *options, void **values) {
    char *buffer = 0;
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        if (options[i] == 5) buffer = values[i];
        if (options[i] == 6) size = (size_t)values[i];
    }
    size_t length = strlen(log) + 1;
    memcpy(buffer, log, length < size ? length : size);
}
result cuModuleLoadDataEx(void **module, const char *text, unsigned count, int *options, void **values) {
    NEEDS_CONTEXT(0);
    const char *line = "ptxas application ptx input, line 7; error : Unknown symbol 'frobnicate'\n";
    if (plays("refuses")) {
        write_log("ptxas application ptx input, line 7; error : Unknown symbol 'frobnicate'\n"
                  "ptxas fatal : Ptx assembly aborted due to errors\n", count, options, values);
        return INVALID_PTX;
    }
    if (plays("refuses at length")) {
        size_t lines = 1000, length = strlen(line);
        char *log = malloc(lines * length + 1);
        for (size_t i = 0; i < lines; i++) strcpy(log + i * length, line);
        write_log(log, count, options, values);
        free(log);
        return INVALID_PTX;
    }
    *module = strstr(text, ".visible .entry") ? (void *)text : 0;
    __atomic_add_fetch(&live, *module != 0, __ATOMIC_SEQ_CST);
    return *module ? OK : INVALID_PTX;
}
result cuModuleUnload(void *module) { NEEDS_CONTEXT(-1); return OK; }
result cuModuleGetFunction(void **function, void *module, const char *name) {
    NEEDS_CONTEXT(0);
    *function = (void *)128;
    return plays("no entry") ? 500 : OK;
}
result cuFuncGetAttribute(int *value, int attribute, void *function) { NEEDS_CONTEXT(0); *value = 1; return OK; }
static int shared_allowed = 48 << 10;
result cuFuncSetAttribute(void *function, int attribute, int value) {
    NEEDS_CONTEXT(0);
    if (value > shared_allowed) shared_allowed = value;
    return attribute == 8 ? OK : INVALID_VALUE;
}
result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **params, void **extra) {
    NEEDS_CONTEXT(0);
    launched = 1;
    int grid = gx > 0 && gx < 1u << 31 && gy > 0 && gy < 1 << 16 && gz > 0 && gz < 1 << 16;
    int block = bx > 0 && by > 0 && bz > 0 && bx * by * bz <= 1024;
    int fits = shared <= shared_allowed && (uint64_t)params[0] % 8 == 0;
    return function == (void *)128 && grid && block && fits ? OK : INVALID_VALUE;
}
result cuStreamCreate(void **stream, unsigned flags) {
    static int calls;
    if (is_call("few streams", &calls, 2)) return OUT_OF_MEMORY;
    NEEDS_CONTEXT(1);
    *stream = malloc(1);
    return flags == 1 ? OK : INVALID_VALUE;
}
result cuStreamDestroy_v2(void *stream) { NEEDS_CONTEXT(-1); free(stream); return OK; }
result cuStreamSynchronize(void *stream) { NEEDS_CONTEXT(0); return state(); }
result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { NEEDS_CONTEXT(0); return OK; }
result cuEventCreate(void **event, unsigned flags) {
    static int calls;
    if (is_call("few events", &calls, 3)) return OUT_OF_MEMORY;
    NEEDS_CONTEXT(1);
    *event = malloc(1);
    return OK;
}
result cuEventDestroy_v2(void *event) { NEEDS_CONTEXT(-1); free(event); return OK; }
result cuEventRecord(void *event, void *stream) { NEEDS_CONTEXT(0); return OK; }
result cuEventSynchronize(void *event) { NEEDS_CONTEXT(0); return state(); }
result cuEventElapsedTime(float *milliseconds, void *from, void *to) { NEEDS_CONTEXT(0); *milliseconds = 1; return OK; }
result cuStreamBeginCapture_v2(void *stream, int mode) { NEEDS_CONTEXT(0); return OK; }
result cuStreamEndCapture(void *stream, void **graph) { NEEDS_CONTEXT(1); *graph = (void *)192; return OK; }
result cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    NEEDS_CONTEXT(1);
    *executable = (void *)193;
    return OK;
}
result cuGraphDestroy(void *graph) { NEEDS_CONTEXT(-1); return graph == (void *)192 ? OK : INVALID_VALUE; }
result cuGraphLaunch(void *executable, void *stream) { NEEDS_CONTEXT(0); return executable == (void *)193 ? OK : INVALID_VALUE; }
result cuGraphExecDestroy(void *executable) { NEEDS_CONTEXT(-1); return OK; }
#endif
