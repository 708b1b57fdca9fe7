//! Loads the driver, and queries its GPUs.
//!
//! Types come from cudarc. This module has its own loader for two reasons. cudarc's loader panics if the driver lacks a
//! function; this loader returns an error. cudarc's `CUresult` is an enum, so a code that a newer driver adds would be
//! undefined behaviour; this module uses an integer.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;

use libloading::Library;
use peerpath_paths::printable;

use super::abi::{
    Address, Attribute, CUcontext, CUevent, CUexternalMemory, CUfunction, CUmodule, CUstream, Code, Device,
    ExternalBuffer, ExternalHandle, INVALID_VALUE, NOT_READY, SUCCESS,
};
use crate::{Error, Gpu, Version};

/// Declares functions of the driver. Each gets a field with its address, and a method that calls it and converts the returned
/// `CUresult` into an [`Error`].
macro_rules! functions {
    ($($name:ident ( $($argument:ident : $type:ty),* );)+) => {
        /// Addresses of the driver's functions. `None` if the library lacks the function.
        #[allow(non_snake_case)]
        struct Functions { $($name: Option<unsafe extern "C" fn($($type),*) -> Code>,)+ }

        impl Functions {
            #[allow(non_snake_case)]
            fn find(library: &Library) -> Self {
                $(
                    // SAFETY: the type is that of the function of this name in cuda.h. The library is never unloaded
                    // (`Driver::load` leaks it), so the address stays valid.
                    let $name = unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }.ok().map(|found| *found);
                )+
                Self { $($name),+ }
            }
        }

        impl Api {
            $(
                /// Calls the driver's function of this name.
                ///
                /// # Safety
                /// The requirements of cuda.h for this function.
                #[inline]
                #[allow(non_snake_case, clippy::too_many_arguments)]
                pub(super) unsafe fn $name(&self, $($argument: $type),*) -> Result<(), Error> {
                    let Some(function) = self.functions.$name else {
                        return Err(Error::MissingSymbol { symbol: stringify!($name) });
                    };
                    // SAFETY: forwarded from the caller.
                    let code = unsafe { function($($argument),*) };
                    if code == SUCCESS { Ok(()) } else { Err(self.refusal(stringify!($name), code)) }
                }
            )+
        }
    };
}

functions! {
    cuInit(flags: c_uint);
    cuDriverGetVersion(version: *mut c_int);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGet(device: *mut Device, ordinal: c_int);
    cuDeviceGetName(name: *mut c_char, length: c_int, device: Device);
    cuDeviceGetAttribute(value: *mut c_int, attribute: Attribute, device: Device);
    cuDeviceGetPCIBusId(text: *mut c_char, length: c_int, device: Device);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: Device);
    cuDeviceCanAccessPeer(can: *mut c_int, device: Device, peer: Device);
    cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: Device);
    cuDevicePrimaryCtxRelease_v2(device: Device);
    cuCtxSetCurrent(context: CUcontext);
    cuCtxSynchronize();
    cuCtxEnablePeerAccess(peer: CUcontext, flags: c_uint);
    cuMemAlloc_v2(address: *mut Address, bytes: usize);
    cuMemFree_v2(address: Address);
    cuMemcpyHtoD_v2(to: Address, from: *const c_void, bytes: usize);
    cuMemcpyDtoH_v2(to: *mut c_void, from: Address, bytes: usize);
    cuMemcpyAsync(to: Address, from: Address, bytes: usize, stream: CUstream);
    cuPointerSetAttribute(value: *const c_void, attribute: c_uint, address: Address);
    cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: c_uint);
    cuMemHostUnregister(address: *mut c_void);
    cuMemHostGetDevicePointer_v2(device_address: *mut Address, address: *mut c_void, flags: c_uint);
    cuMemGetHandleForAddressRange(handle: *mut c_void, address: Address, bytes: usize, kind: c_uint, flags: c_ulonglong);
    cuImportExternalMemory(memory: *mut CUexternalMemory, handle: *const ExternalHandle);
    cuExternalMemoryGetMappedBuffer(address: *mut Address, memory: CUexternalMemory, buffer: *const ExternalBuffer);
    cuDestroyExternalMemory(memory: CUexternalMemory);
    cuStreamCreate(stream: *mut CUstream, flags: c_uint);
    cuStreamSynchronize(stream: CUstream);
    cuStreamDestroy_v2(stream: CUstream);
    cuEventCreate(event: *mut CUevent, flags: c_uint);
    cuEventRecord(event: CUevent, stream: CUstream);
    cuEventQuery(event: CUevent);
    cuEventElapsedTime(milliseconds: *mut f32, start: CUevent, end: CUevent);
    cuEventDestroy_v2(event: CUevent);
    cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
    cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuModuleUnload(module: CUmodule);
    cuLaunchKernel(
        function: CUfunction, blocks_x: c_uint, blocks_y: c_uint, blocks_z: c_uint, threads_x: c_uint, threads_y: c_uint,
        threads_z: c_uint, shared_bytes: c_uint, stream: CUstream, arguments: *mut *mut c_void, extra: *mut *mut c_void
    );
}

/// Functions of a loaded driver.
pub(super) struct Api {
    functions: Functions,
    /// Address of `cuGetErrorName`. Not in `functions`, because the methods of those functions call it to name errors.
    name: Option<ErrorName>,
}

/// Type of `cuGetErrorName`.
type ErrorName = unsafe extern "C" fn(Code, *mut *const c_char) -> Code;

impl Api {
    /// Returns the error for a `CUresult`. Does not look up the name of `CUDA_ERROR_NOT_READY`, because this code is frequent.
    fn refusal(&self, call: &'static str, code: Code) -> Error {
        let name = if code == NOT_READY { "CUDA_ERROR_NOT_READY" } else { self.error_name(code) };
        Error::Refused { call, code, name }
    }

    #[cold]
    fn error_name(&self, code: Code) -> &'static str {
        let unnamed = "an unnamed error";
        let Some(function) = self.name else { return unnamed };
        let mut name = std::ptr::null();
        // SAFETY: the function writes a pointer, and may be called at any time.
        let found = unsafe { function(code, &raw mut name) };
        if found != SUCCESS || name.is_null() {
            return unnamed;
        }
        // SAFETY: names are zero-terminated constants of the library, which is never unloaded.
        unsafe { CStr::from_ptr(name) }.to_str().unwrap_or(unnamed)
    }
}

/// NVIDIA's driver, loaded and initialized.
pub struct Driver {
    api: Api,
    version: Version,
    /// Name of the library, if it is a fake driver.
    stand_in: Option<&'static str>,
}

static DRIVER: OnceLock<Result<Driver, Error>> = OnceLock::new();

/// Name under which the driver's packages install the library.
const NAME: &str = "libcuda.so.1";
/// Symbol that a fake driver exports: a pointer to its name.
const STAND_IN: &[u8] = b"peerpath_stand_in\0";

/// Returns the name of the loaded library if it is a fake driver, i.e. exports the symbol `peerpath_stand_in`. Loads
/// nothing.
pub fn stand_in() -> Option<&'static str> {
    DRIVER.get()?.as_ref().ok()?.stand_in
}

impl Driver {
    /// Returns the driver of this process. The first call loads and initializes the driver, which is never unloaded.
    ///
    /// # Errors
    /// The driver is not installed, lacks a function, or cannot initialize.
    pub fn get() -> Result<&'static Self, Error> {
        DRIVER.get_or_init(Self::load).as_ref().map_err(Error::clone)
    }

    fn load() -> Result<Self, Error> {
        // SAFETY: the initializers of the driver's library have no requirements.
        let library = unsafe { Library::new(NAME) };
        let reason = |error: libloading::Error| {
            // The source of the error contains the message of the dynamic loader.
            std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
        };
        let library = library.map_err(|error| Error::NoLibrary { why: reason(error) })?;
        // Leak the library, because its functions and error names are used until the process exits.
        let library = Box::leak(Box::new(library));
        // SAFETY: as in `Functions::find`.
        let name = unsafe { library.get::<ErrorName>(b"cuGetErrorName\0") }.ok().map(|found| *found);
        let api = Api { functions: Functions::find(library), name };
        // SAFETY: this project defines the symbol: a pointer to a zero-terminated constant.
        let stand_in = unsafe { library.get::<*const *const c_char>(STAND_IN) }.ok();
        let stand_in = stand_in.map(|name| {
            // SAFETY: as above; the library stays loaded.
            unsafe { CStr::from_ptr(**name) }.to_str().unwrap_or("a fake CUDA driver")
        });
        // SAFETY: 0 is the only valid value of the flags.
        unsafe { api.cuInit(0) }?;
        let mut version = 0;
        // SAFETY: the pointer is valid for the number that the function writes.
        unsafe { api.cuDriverGetVersion(&raw mut version) }?;
        Ok(Self { api, version: Version::of(version), stand_in })
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// Returns the highest version of CUDA that the driver supports.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the number of GPUs.
    ///
    /// # Errors
    /// The driver failed.
    pub fn gpu_count(&self) -> Result<u32, Error> {
        let mut count = 0;
        // SAFETY: the pointer is valid for the number that the function writes.
        unsafe { self.api.cuDeviceGetCount(&raw mut count) }?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    /// Returns the properties of a GPU by its number. Properties that this driver does not know are `None`.
    ///
    /// # Errors
    /// The GPU does not exist, or the driver failed.
    pub fn gpu(&self, index: u32) -> Result<Gpu, Error> {
        let device = self.device(index)?;
        let number = |attribute| self.attribute(device, attribute);
        let flag = |attribute| Ok::<_, Error>(number(attribute)?.map(|value| value != 0));
        Ok(Gpu {
            index,
            name: self.name(device)?,
            bdf: self.bus_id(device)?.and_then(|text| text.to_ascii_lowercase().parse().ok()),
            memory_bytes: self.memory_bytes(device)?,
            dma_buf: flag(Attribute::CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED)?,
            gpu_direct_rdma: flag(Attribute::CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED)?,
            // The attribute names the GPUs that observe writes in order. 0: none, 100: the owner of the memory, 200: all.
            writes_ordered: number(Attribute::CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING)?
                .map(|order| order >= 100),
        })
    }

    /// Lists all GPUs.
    ///
    /// # Errors
    /// The driver failed.
    pub fn gpus(&self) -> Result<Vec<Gpu>, Error> {
        (0..self.gpu_count()?).map(|index| self.gpu(index)).collect()
    }

    /// Returns the driver's handle of a GPU.
    pub(super) fn device(&self, index: u32) -> Result<Device, Error> {
        let count = self.gpu_count()?;
        let ordinal = c_int::try_from(index).ok().filter(|_| index < count).ok_or(Error::NoGpu { index, count })?;
        let mut device = 0;
        // SAFETY: the pointer is valid for the number that the function writes.
        unsafe { self.api.cuDeviceGet(&raw mut device, ordinal) }?;
        Ok(device)
    }

    fn name(&self, device: Device) -> Result<String, Error> {
        let mut text = [0; 128];
        // SAFETY: the function writes at most as many bytes as the given length, including a zero.
        unsafe { self.api.cuDeviceGetName(text.as_mut_ptr(), 128, device) }?;
        Ok(string(&text))
    }

    /// Returns the PCI address, e.g. `0000:65:00.0`. `None` if the GPU is not on a PCI bus.
    fn bus_id(&self, device: Device) -> Result<Option<String>, Error> {
        let mut text = [0; 32];
        // SAFETY: as in `name`.
        match unsafe { self.api.cuDeviceGetPCIBusId(text.as_mut_ptr(), 32, device) } {
            Ok(()) => Ok(Some(string(&text)).filter(|text| !text.is_empty())),
            Err(Error::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn memory_bytes(&self, device: Device) -> Result<u64, Error> {
        let mut bytes = 0;
        // SAFETY: the pointer is valid for the number that the function writes.
        unsafe { self.api.cuDeviceTotalMem_v2(&raw mut bytes, device) }?;
        Ok(bytes as u64)
    }

    /// Returns an attribute. `None` if this driver does not know it.
    pub(super) fn attribute(&self, device: Device, attribute: Attribute) -> Result<Option<i32>, Error> {
        let mut value = 0;
        // SAFETY: the pointer is valid for the number that the function writes.
        match unsafe { self.api.cuDeviceGetAttribute(&raw mut value, attribute, device) } {
            Ok(()) => Ok(Some(value)),
            Err(Error::Refused { code: INVALID_VALUE, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn can_access_peer(&self, device: Device, peer: Device) -> Result<bool, Error> {
        let mut can = 0;
        // SAFETY: the pointer is valid for the number that the function writes.
        unsafe { self.api.cuDeviceCanAccessPeer(&raw mut can, device, peer) }?;
        Ok(can != 0)
    }
}

/// Decodes the text up to the terminating zero, and makes it printable.
fn string(text: &[c_char]) -> String {
    // `c_char` is signed on some architectures.
    let bytes = text.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0);
    printable(&bytes.map(char::from).collect::<String>()).trim().to_owned()
}
