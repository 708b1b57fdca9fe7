//! Functions of cuda.h that the program uses.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};

use cudarc::driver::sys::{
    CUDA_EXTERNAL_MEMORY_BUFFER_DESC, CUDA_EXTERNAL_MEMORY_HANDLE_DESC, CUcontext, CUdevice, CUdeviceptr, CUevent,
    CUexternalMemory, CUexternalMemoryHandleType, CUfunction, CUmodule, CUresult, CUstream,
};

use crate::account::{Account, Import, Memory, PAGE, Span, account, complain, log};
use crate::options::OPTIONS;

type Code = c_uint;

const LOST: CUresult = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

thread_local! {
    /// Whether a context is current in this thread.
    static HAS_CONTEXT: Cell<bool> = const { Cell::new(false) };
}

/// Precondition of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Initialised,
    Context,
}

/// Executes a call, unless the options refuse it or the GPU is lost.
fn call(name: &str, needs: Needs, work: impl FnOnce(&mut Account) -> Result<(), CUresult>) -> Code {
    let mut account = account();
    if needs != Needs::Nothing && !account.initialised {
        complain(&format!("{name} before cuInit"));
        return CUresult::CUDA_ERROR_NOT_INITIALIZED as Code;
    }
    if let Some(code) = OPTIONS.refusal(name) {
        log(&format!("{name} refused {code}"));
        return code;
    }
    if needs == Needs::Context {
        if !HAS_CONTEXT.get() {
            complain(&format!("{name} without a context"));
            return CUresult::CUDA_ERROR_INVALID_CONTEXT as Code;
        }
        if account.lost {
            return LOST as Code;
        }
    }
    let done = work(&mut account);
    // Do not log these frequent calls: they would flood the log.
    if name != "cuEventQuery" && name != "cuCtxSetCurrent" {
        log(&format!("{name} {}", done.err().map_or(0, |code| code as Code)));
    }
    done.map_or_else(|code| code as Code, |()| 0)
}

/// Complains and fails if an object was not found.
fn must(found: bool, what: &str) -> Result<(), CUresult> {
    if found {
        return Ok(());
    }
    complain(what);
    Err(CUresult::CUDA_ERROR_INVALID_HANDLE)
}

fn string(text: &CStr, into: *mut c_char, length: c_int) -> Result<(), CUresult> {
    let bytes = text.to_bytes_with_nul();
    if bytes.len() > usize::try_from(length).unwrap_or(0) {
        return Err(INVALID);
    }
    // SAFETY: the caller provides `length` bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), into, bytes.len()) };
    Ok(())
}

/// Declares exported functions that call [`call`].
macro_rules! calls {
    ($($name:ident [$needs:ident] ($($argument:ident : $type:ty),*) |$account:ident| $body:block)+) => {$(
        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments, unused_variables, unreachable_pub)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> Code {
            call(stringify!($name), Needs::$needs, |$account: &mut Account| -> Result<(), CUresult> { $body })
        }
    )+};
}

calls! {
    cuInit[Nothing](flags: c_uint) |account| {
        account.initialised = true;
        if flags == 0 { Ok(()) } else { Err(INVALID) }
    }

    cuDriverGetVersion[Nothing](version: *mut c_int) |account| {
        // SAFETY: the caller provides the memory.
        unsafe { version.write(OPTIONS.version) };
        Ok(())
    }

    cuGetErrorName[Nothing](code: Code, name: *mut *const c_char) |account| {
        let text = match code {
            1 => c"CUDA_ERROR_INVALID_VALUE",
            2 => c"CUDA_ERROR_OUT_OF_MEMORY",
            100 => c"CUDA_ERROR_NO_DEVICE",
            304 => c"CUDA_ERROR_OPERATING_SYSTEM",
            400 => c"CUDA_ERROR_INVALID_HANDLE",
            700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
            719 => c"CUDA_ERROR_LAUNCH_FAILED",
            800 => c"CUDA_ERROR_NOT_PERMITTED",
            801 => c"CUDA_ERROR_NOT_SUPPORTED",
            999 => c"CUDA_ERROR_UNKNOWN",
            _ => return Err(INVALID),
        };
        // SAFETY: the caller provides the memory.
        unsafe { name.write(text.as_ptr()) };
        Ok(())
    }

    cuDeviceGetCount[Initialised](count: *mut c_int) |account| {
        // SAFETY: the caller provides the memory.
        unsafe { count.write(OPTIONS.gpus) };
        Ok(())
    }

    cuDeviceGet[Initialised](device: *mut CUdevice, ordinal: c_int) |account| {
        if !(0..OPTIONS.gpus).contains(&ordinal) {
            return Err(CUresult::CUDA_ERROR_INVALID_DEVICE);
        }
        // SAFETY: the caller provides the memory.
        unsafe { device.write(ordinal) };
        Ok(())
    }

    cuDeviceGetName[Initialised](name: *mut c_char, length: c_int, device: CUdevice) |account| {
        string(c"fake GPU", name, length)
    }

    cuDeviceGetPCIBusId[Initialised](text: *mut c_char, length: c_int, device: CUdevice) |account| {
        // BDFs of functions that exist on no machine.
        let numbers = [c"FF00:FE:1E.0", c"FF00:FE:1E.1"];
        string(numbers[usize::try_from(device).unwrap_or(0) % 2], text, length)
    }

    cuDeviceTotalMem_v2[Initialised](bytes: *mut usize, device: CUdevice) |account| {
        // SAFETY: the caller provides the memory.
        unsafe { bytes.write(1 << 30) };
        Ok(())
    }

    cuDeviceGetAttribute[Initialised](value: *mut c_int, attribute: c_int, device: CUdevice) |account| {
        let answer = match attribute {
            16 => 4,
            116 | 124 => 1,
            118 => 200,
            _ => return Err(INVALID),
        };
        // SAFETY: the caller provides the memory.
        unsafe { value.write(answer) };
        Ok(())
    }

    cuDeviceCanAccessPeer[Initialised](can: *mut c_int, device: CUdevice, peer: CUdevice) |account| {
        // SAFETY: the caller provides the memory.
        unsafe { can.write(1) };
        Ok(())
    }

    cuDevicePrimaryCtxRetain[Initialised](context: *mut CUcontext, device: CUdevice) |account| {
        *account.contexts.entry(device).or_default() += 1;
        // SAFETY: the caller provides the memory. The value is only compared.
        unsafe { context.write((0x100 + device as usize) as CUcontext) };
        Ok(())
    }

    cuDevicePrimaryCtxRelease_v2[Initialised](device: CUdevice) |account| {
        let count = account.contexts.get_mut(&device).filter(|count| **count > 0);
        must(count.is_some(), "release of a context that is not retained")?;
        if let Some(count) = account.contexts.get_mut(&device) {
            *count -= 1;
        }
        account.contexts.retain(|_, count| *count > 0);
        Ok(())
    }

    cuCtxSetCurrent[Initialised](context: CUcontext) |account| {
        let device = (context as usize).wrapping_sub(0x100);
        let retained = i32::try_from(device).is_ok_and(|device| account.contexts.contains_key(&device));
        must(retained, "use of a context that is not retained")?;
        HAS_CONTEXT.set(true);
        Ok(())
    }

    cuCtxEnablePeerAccess[Context](peer: CUcontext, flags: c_uint) |account| { Ok(()) }

    cuMemAlloc_v2[Context](address: *mut CUdeviceptr, bytes: usize) |account| {
        if bytes == 0 || bytes > 1 << 30 {
            return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        }
        // SAFETY: system calls on a new file.
        let (file, at) = unsafe {
            let fd = libc::memfd_create(c"double".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 || libc::ftruncate(fd, bytes as libc::off_t) < 0 {
                return Err(CUresult::CUDA_ERROR_OPERATING_SYSTEM);
            }
            (OwnedFd::from_raw_fd(fd), map(fd, bytes)?)
        };
        account.memory.insert(at, Span { length: bytes, memory: Memory::Device { file } });
        // SAFETY: the caller provides the memory.
        unsafe { address.write(at) };
        Ok(())
    }

    cuMemFree_v2[Context](address: CUdeviceptr) |account| {
        let found = account.memory.get(&address).map(|span| match &span.memory {
            Memory::Registered => None,
            Memory::Device { .. } => Some(None),
            Memory::External { import } => Some(Some(*import)),
        });
        must(matches!(found, Some(Some(_))), "free of memory that does not belong to the GPU")?;
        if let Some(Some(Some(import))) = found
            && let Some(import) = account.imports.get_mut(&import)
        {
            import.mapped = false;
        }
        if let Some(span) = account.memory.remove(&address) {
            // SAFETY: mapped by `cuMemAlloc_v2` or `cuExternalMemoryGetMappedBuffer` with this length.
            unsafe { libc::munmap(address as *mut c_void, span.length) };
        }
        Ok(())
    }

    cuMemcpyHtoD_v2[Context](to: CUdeviceptr, from: *const c_void, bytes: usize) |account| {
        let to = account.reach(to, bytes).ok_or(INVALID)?;
        // SAFETY: `reach` checked the GPU's range, and the caller guarantees the host's.
        unsafe { std::ptr::copy(from.cast(), to, bytes) };
        Ok(())
    }

    cuMemcpyDtoH_v2[Context](to: *mut c_void, from: CUdeviceptr, bytes: usize) |account| {
        let from = account.reach(from, bytes).ok_or(INVALID)?;
        // SAFETY: `reach` checked the GPU's range, and the caller guarantees the host's.
        unsafe { std::ptr::copy(from, to.cast(), bytes) };
        Ok(())
    }

    cuMemcpyDtoD_v2[Context](to: CUdeviceptr, from: CUdeviceptr, bytes: usize) |account| {
        copy(account, to, from, bytes)
    }

    cuCtxSynchronize[Context]() |account| { Ok(()) }

    cuMemcpyAsync[Context](to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream) |account| {
        must(account.streams.contains(&(stream as usize)), "copy on an unknown stream")?;
        copy(account, to, from, bytes)
    }

    cuPointerSetAttribute[Context](value: *const c_void, attribute: c_uint, address: CUdeviceptr) |account| {
        must(attribute == 6 && account.memory.contains_key(&address), "attribute of memory that does not belong to the GPU")
    }

    cuMemHostRegister_v2[Context](address: *mut c_void, bytes: usize, flags: c_uint) |account| {
        if flags & 2 == 0 || flags & !7 != 0 || bytes == 0 {
            return Err(INVALID);
        }
        let at = address as u64;
        if account.memory.range(..at + bytes as u64).next_back().is_some_and(|(start, span)| start + span.length as u64 > at) {
            return Err(CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        }
        account.memory.insert(at, Span { length: bytes, memory: Memory::Registered });
        Ok(())
    }

    cuMemHostUnregister[Context](address: *mut c_void) |account| {
        let is_ours = |span: &Span| matches!(span.memory, Memory::Registered);
        let found = account.memory.get(&(address as u64)).is_some_and(is_ours);
        must(found, "unregistration of memory that is not registered")?;
        account.memory.remove(&(address as u64));
        Ok(())
    }

    cuMemHostGetDevicePointer_v2[Context](device_address: *mut CUdeviceptr, address: *mut c_void, flags: c_uint) |account| {
        must(account.memory.contains_key(&(address as u64)), "address of memory that is not registered")?;
        // SAFETY: the caller provides the memory.
        unsafe { device_address.write(address as u64) };
        Ok(())
    }

    cuMemGetHandleForAddressRange[Context](
        handle: *mut c_void, address: CUdeviceptr, bytes: usize, kind: c_uint, flags: c_ulonglong
    ) |account| {
        if kind != 1 || flags > 1 || (flags == 1 && OPTIONS.version < 12_080) || !bytes.is_multiple_of(PAGE.size()) {
            return Err(INVALID);
        }
        let Some(Span { length, memory: Memory::Device { file } }) = account.memory.get(&address) else {
            complain("dma-buf of memory that does not belong to the GPU");
            return Err(INVALID);
        };
        if bytes > *length {
            return Err(INVALID);
        }
        let Ok(copy) = file.try_clone() else { return Err(CUresult::CUDA_ERROR_OPERATING_SYSTEM) };
        // SAFETY: for this type, the caller provides an int.
        unsafe { handle.cast::<c_int>().write(copy.into_raw_fd()) };
        Ok(())
    }

    cuImportExternalMemory[Context](memory: *mut CUexternalMemory, handle: *const CUDA_EXTERNAL_MEMORY_HANDLE_DESC) |account| {
        // SAFETY: the caller provides the structure.
        let (kind, fd, size, reserved) = unsafe { ((*handle).type_, (*handle).handle.fd, (*handle).size, (*handle).reserved) };
        let is_known = match kind {
            CUexternalMemoryHandleType::CU_EXTERNAL_MEMORY_HANDLE_TYPE_DMABUF_FD => OPTIONS.version >= 13_000,
            CUexternalMemoryHandleType::CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD => true,
            _ => false,
        };
        // One name per handle type, so that tests can refuse either type.
        let name = if kind == CUexternalMemoryHandleType::CU_EXTERNAL_MEMORY_HANDLE_TYPE_DMABUF_FD { "dma-buf" } else { "opaque" };
        if let Some(code) = OPTIONS.refusal(name) {
            // SAFETY: tests use only codes that cuda.h defines.
            return Err(unsafe { std::mem::transmute::<u32, CUresult>(code) });
        }
        must(reserved.iter().all(|word| *word == 0) && size > 0, "import with an invalid description")?;
        let given_twice = account.imports.values().any(|import| import.file.as_raw_fd() == fd);
        must(!given_twice, "import of a file descriptor that is imported already")?;
        // SAFETY: `F_GETFD` accepts any number.
        let is_open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
        must(is_open, "import of a closed file descriptor")?;
        if !is_known {
            return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED);
        }
        // SAFETY: the import owns the file descriptor from here on.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        let number = account.handle();
        account.imports.insert(number, Import { file, mapped: false });
        // SAFETY: the caller provides the memory.
        unsafe { memory.write(number as CUexternalMemory) };
        Ok(())
    }

    cuExternalMemoryGetMappedBuffer[Context](
        address: *mut CUdeviceptr, memory: CUexternalMemory, buffer: *const CUDA_EXTERNAL_MEMORY_BUFFER_DESC
    ) |account| {
        // SAFETY: the caller provides the structure.
        let (offset, size, flags) = unsafe { ((*buffer).offset, (*buffer).size, (*buffer).flags) };
        let number = memory as usize;
        let Some(import) = account.imports.get_mut(&number) else {
            complain("mapping of an unknown import");
            return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
        };
        if offset != 0 || flags != 0 || size == 0 {
            return Err(INVALID);
        }
        // SAFETY: the kernel chooses the address of the new mapping.
        let at = unsafe { map(import.file.as_raw_fd(), size as usize) }?;
        import.mapped = true;
        account.memory.insert(at, Span { length: size as usize, memory: Memory::External { import: number } });
        // SAFETY: the caller provides the memory.
        unsafe { address.write(at) };
        Ok(())
    }

    cuDestroyExternalMemory[Context](memory: CUexternalMemory) |account| {
        let found = account.imports.remove(&(memory as usize));
        must(found.is_some(), "destruction of an unknown import")?;
        must(found.is_some_and(|import| !import.mapped), "destruction of an import before its mapping")
    }

    cuStreamCreate[Context](stream: *mut CUstream, flags: c_uint) |account| {
        let handle = account.handle();
        account.streams.insert(handle);
        // SAFETY: the caller provides the memory.
        unsafe { stream.write(handle as CUstream) };
        Ok(())
    }

    cuStreamSynchronize[Context](stream: CUstream) |account| {
        must(account.streams.contains(&(stream as usize)), "wait for an unknown stream")
    }

    cuStreamDestroy_v2[Context](stream: CUstream) |account| {
        must(account.streams.remove(&(stream as usize)), "destruction of an unknown stream")
    }

    cuEventCreate[Context](event: *mut CUevent, flags: c_uint) |account| {
        let handle = account.handle();
        account.events.insert(handle, None);
        // SAFETY: the caller provides the memory.
        unsafe { event.write(handle as CUevent) };
        Ok(())
    }

    cuEventRecord[Context](event: CUevent, stream: CUstream) |account| {
        must(account.streams.contains(&(stream as usize)), "event on an unknown stream")?;
        must(account.events.contains_key(&(event as usize)), "record of an unknown event")?;
        let now = account.now();
        account.events.insert(event as usize, Some(now));
        Ok(())
    }

    cuEventQuery[Context](event: CUevent) |account| {
        must(account.events.contains_key(&(event as usize)), "query of an unknown event")
    }

    cuEventElapsedTime[Context](milliseconds: *mut f32, start: CUevent, end: CUevent) |account| {
        let time = |event: CUevent| account.events.get(&(event as usize)).copied().flatten();
        let (Some(start), Some(end)) = (time(start), time(end)) else {
            complain("time between events that were not recorded");
            return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
        };
        must(end >= start, "time between events in the wrong order")?;
        // SAFETY: the caller provides the memory.
        unsafe { milliseconds.write((end - start) as f32 / 1e6) };
        Ok(())
    }

    cuEventDestroy_v2[Context](event: CUevent) |account| {
        must(account.events.remove(&(event as usize)).is_some(), "destruction of an unknown event")
    }

    cuModuleLoadData[Context](module: *mut CUmodule, image: *const c_void) |account| {
        // SAFETY: the caller provides a zero-terminated string.
        let text = unsafe { CStr::from_ptr(image.cast()) }.to_string_lossy();
        if !text.contains(".target") {
            return Err(CUresult::CUDA_ERROR_INVALID_IMAGE);
        }
        let handle = account.handle();
        account.modules.insert(handle);
        // SAFETY: the caller provides the memory.
        unsafe { module.write(handle as CUmodule) };
        Ok(())
    }

    cuModuleGetFunction[Context](function: *mut CUfunction, module: CUmodule, name: *const c_char) |account| {
        must(account.modules.contains(&(module as usize)), "function of an unknown module")?;
        // SAFETY: the caller provides a zero-terminated string.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        // The name ends with the bytes per access, the only property of a kernel that the fake driver needs.
        let width: usize = name.rsplit('_').next().and_then(|width| width.parse().ok()).ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?;
        // SAFETY: the caller provides the memory.
        unsafe { function.write((module as usize + width) as CUfunction) };
        Ok(())
    }

    cuModuleUnload[Context](module: CUmodule) |account| {
        must(account.modules.remove(&(module as usize)), "unload of an unknown module")
    }

    cuLaunchKernel[Context](
        function: CUfunction, blocks_x: c_uint, blocks_y: c_uint, blocks_z: c_uint, threads_x: c_uint, threads_y: c_uint,
        threads_z: c_uint, shared_bytes: c_uint, stream: CUstream, arguments: *mut *mut c_void, extra: *mut *mut c_void
    ) |account| {
        must(account.streams.contains(&(stream as usize)), "kernel on an unknown stream")?;
        let (module, width) = (function as usize & !0xfff, function as usize & 0xfff);
        must(account.modules.contains(&module), "kernel of an unknown module")?;
        let shape = [blocks_y, blocks_z, threads_y, threads_z];
        must(shape == [1; 4] && blocks_x > 0 && (1..=1024).contains(&threads_x), "kernel with an invalid grid")?;
        // SAFETY: the kernels have three 64-bit parameters.
        let [to, from, words] = unsafe { [0, 1, 2].map(|place| arguments.add(place).read().cast::<u64>().read()) };
        must((to | from).is_multiple_of(width as u64), "kernel at a misaligned address")?;
        copy(account, to, from, words as usize * width)
    }
}

/// Maps a file.
unsafe fn map(fd: c_int, bytes: usize) -> Result<u64, CUresult> {
    // SAFETY: the kernel chooses a free address.
    let at =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0) };
    if at == libc::MAP_FAILED { Err(CUresult::CUDA_ERROR_MAP_FAILED) } else { Ok(at as u64) }
}

/// Executes a work item, unless the GPU is lost at this item.
fn copy(account: &mut Account, to: CUdeviceptr, from: CUdeviceptr, bytes: usize) -> Result<(), CUresult> {
    account.work += 1;
    if OPTIONS.lose.is_some_and(|lose| account.work >= lose) {
        account.lost = true;
        // As on a GPU, later calls report the loss.
        return Ok(());
    }
    let (from, to) = (account.reach(from, bytes).ok_or(INVALID)?, account.reach(to, bytes).ok_or(INVALID)?);
    // SAFETY: `reach` checked both ranges.
    unsafe { std::ptr::copy(from, to, bytes) };
    if OPTIONS.spoil && bytes > 0 {
        // SAFETY: `reach` checked the range, which contains this byte.
        unsafe { *to.add(bytes / 2) ^= 0x20 };
    }
    Ok(())
}
