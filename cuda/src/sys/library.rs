//! Loading the driver, and asking it for GPUs.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;

use libloading::Library;

use super::abi::{
    Address, Attribute, Code, Device, ExternalBuffer, ExternalHandle, INVALID_VALUE, NOT_READY, Opaque, SUCCESS,
};
use crate::{Error, Gpu, Version};

/// Declares the functions of the driver: where each is, and a method that calls it and makes an [`Error`] of its answer.
macro_rules! functions {
    ($($name:ident ( $($argument:ident : $type:ty),* );)+) => {
        /// Where the functions are; none where the library lacks one.
        #[allow(non_snake_case)]
        struct Functions { $($name: Option<unsafe extern "C" fn($($type),*) -> Code>,)+ }

        impl Functions {
            #[allow(non_snake_case)]
            fn find(library: &Library) -> Self {
                $(
                    // SAFETY: the type is that of the function of this name in cuda.h; the pointer is used only as long as
                    // the library is loaded, which is for ever: see `Driver::get`.
                    let $name = unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }.ok().map(|found| *found);
                )+
                Self { $($name),+ }
            }
        }

        impl Api {
            $(
                /// Calls the function of this name.
                ///
                /// # Safety
                /// As cuda.h says of it.
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
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: Device);
    cuDeviceGetPCIBusId(text: *mut c_char, length: c_int, device: Device);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: Device);
    cuDeviceCanAccessPeer(can: *mut c_int, device: Device, peer: Device);
    cuDevicePrimaryCtxRetain(context: *mut Opaque, device: Device);
    cuDevicePrimaryCtxRelease_v2(device: Device);
    cuCtxSetCurrent(context: Opaque);
    cuCtxSynchronize();
    cuCtxEnablePeerAccess(peer: Opaque, flags: c_uint);
    cuMemAlloc_v2(address: *mut Address, bytes: usize);
    cuMemFree_v2(address: Address);
    cuMemcpyHtoD_v2(to: Address, from: *const c_void, bytes: usize);
    cuMemcpyDtoH_v2(to: *mut c_void, from: Address, bytes: usize);
    cuMemcpyAsync(to: Address, from: Address, bytes: usize, stream: Opaque);
    cuPointerSetAttribute(value: *const c_void, attribute: c_uint, address: Address);
    cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: c_uint);
    cuMemHostUnregister(address: *mut c_void);
    cuMemHostGetDevicePointer_v2(device_address: *mut Address, address: *mut c_void, flags: c_uint);
    cuMemGetHandleForAddressRange(handle: *mut c_void, address: Address, bytes: usize, kind: c_uint, flags: c_ulonglong);
    cuImportExternalMemory(memory: *mut Opaque, handle: *const ExternalHandle);
    cuExternalMemoryGetMappedBuffer(address: *mut Address, memory: Opaque, buffer: *const ExternalBuffer);
    cuDestroyExternalMemory(memory: Opaque);
    cuStreamCreate(stream: *mut Opaque, flags: c_uint);
    cuStreamSynchronize(stream: Opaque);
    cuStreamDestroy_v2(stream: Opaque);
    cuEventCreate(event: *mut Opaque, flags: c_uint);
    cuEventRecord(event: Opaque, stream: Opaque);
    cuEventQuery(event: Opaque);
    cuEventElapsedTime(milliseconds: *mut f32, start: Opaque, end: Opaque);
    cuEventDestroy_v2(event: Opaque);
    cuModuleLoadData(module: *mut Opaque, image: *const c_void);
    cuModuleGetFunction(function: *mut Opaque, module: Opaque, name: *const c_char);
    cuModuleUnload(module: Opaque);
    cuLaunchKernel(
        function: Opaque, blocks_x: c_uint, blocks_y: c_uint, blocks_z: c_uint, threads_x: c_uint, threads_y: c_uint,
        threads_z: c_uint, shared_bytes: c_uint, stream: Opaque, arguments: *mut *mut c_void, extra: *mut *mut c_void
    );
}

/// The functions of a loaded driver. Private to this crate in all but name.
pub struct Api {
    functions: Functions,
    /// Apart, since its own errors have no name.
    name: Option<ErrorName>,
}

/// `cuGetErrorName`.
type ErrorName = unsafe extern "C" fn(Code, *mut *const c_char) -> Code;

impl Api {
    /// The error of an answer. That something is not ready yet is no error, and said often.
    fn refusal(&self, call: &'static str, code: Code) -> Error {
        let name = if code == NOT_READY { "CUDA_ERROR_NOT_READY" } else { self.error_name(code) };
        Error::Refused { call, code, name }
    }

    #[cold]
    fn error_name(&self, code: Code) -> &'static str {
        let unnamed = "an error without a name";
        let Some(function) = self.name else { return unnamed };
        let mut name = std::ptr::null();
        // SAFETY: it writes a pointer; the driver may be asked for names at any time.
        let found = unsafe { function(code, &raw mut name) };
        if found != SUCCESS || name.is_null() {
            return unnamed;
        }
        // SAFETY: the driver's names are constants of the library, which is never unloaded, and end with a zero.
        unsafe { CStr::from_ptr(name) }.to_str().unwrap_or(unnamed)
    }
}

/// The loaded and initialised driver.
pub struct Driver {
    api: Api,
    version: Version,
    /// What the library calls itself where it only stands in for the driver.
    stand_in: Option<&'static str>,
}

static DRIVER: OnceLock<Result<Driver, Error>> = OnceLock::new();

/// Where the loader looks: the name that the driver's packages install.
const NAME: &str = "libcuda.so.1";
/// What a library exports that stands in for the driver: the address of a string.
const STAND_IN: &[u8] = b"peerpath_stand_in\0";

/// What the library that was loaded calls itself where it only stands in for the driver. Loads nothing.
pub fn stand_in() -> Option<&'static str> {
    DRIVER.get()?.as_ref().ok()?.stand_in
}

impl Driver {
    /// The driver of this process, loaded when it is first asked for and never unloaded.
    ///
    /// # Errors
    /// There is none, it lacks a function, or it could not be started.
    pub fn get() -> Result<&'static Self, Error> {
        DRIVER.get_or_init(Self::load).as_ref().map_err(Error::clone)
    }

    fn load() -> Result<Self, Error> {
        // SAFETY: the driver's library may be loaded by any program at any time.
        let library = unsafe { Library::new(NAME) };
        let said = |error: libloading::Error| {
            // What it is about stands in the source.
            std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
        };
        let library = library.map_err(|error| Error::NoLibrary { why: said(error) })?;
        // Functions and names of errors are used for as long as the process lives.
        let library = Box::leak(Box::new(library));
        // SAFETY: as in `Functions::find`.
        let name = unsafe { library.get::<ErrorName>(b"cuGetErrorName\0") }.ok().map(|found| *found);
        let api = Api { functions: Functions::find(library), name };
        // SAFETY: this symbol is ours to define: a string without an end elsewhere than in itself.
        let stand_in = unsafe { library.get::<*const *const c_char>(STAND_IN) }.ok();
        let stand_in = stand_in.map(|name| {
            // SAFETY: as above; the library stays loaded.
            unsafe { CStr::from_ptr(**name) }.to_str().unwrap_or("a library that stands in for the driver")
        });
        // SAFETY: the first call of all, with the only flags that exist.
        unsafe { api.cuInit(0) }?;
        let mut version = 0;
        // SAFETY: it writes a number.
        unsafe { api.cuDriverGetVersion(&raw mut version) }?;
        Ok(Self { api, version: Version::of(version), stand_in })
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// The version of CUDA that it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many GPUs it has.
    ///
    /// # Errors
    /// The driver failed.
    pub fn gpu_count(&self) -> Result<u32, Error> {
        let mut count = 0;
        // SAFETY: it writes a number.
        unsafe { self.api.cuDeviceGetCount(&raw mut count) }?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    /// A GPU by its number. What this driver cannot answer is `None`.
    ///
    /// # Errors
    /// There is no such GPU, or the driver failed.
    pub fn gpu(&self, index: u32) -> Result<Gpu, Error> {
        let device = self.device(index)?;
        let number = |attribute| self.attribute(device, attribute);
        let flag = |attribute| Ok::<_, Error>(number(attribute)?.map(|value| value != 0));
        Ok(Gpu {
            index,
            name: self.name(device)?,
            bdf: self.bus_id(device)?.and_then(|text| text.to_ascii_lowercase().parse().ok()),
            memory_bytes: self.memory_bytes(device)?,
            dma_buf: flag(Attribute::DmaBufSupported)?,
            gpu_direct_rdma: flag(Attribute::GpuDirectRdmaSupported)?,
            // 0: none, 100: by the device that wrote, 200: by all devices.
            writes_ordered: number(Attribute::GpuDirectRdmaWritesOrdering)?.map(|order| order >= 100),
        })
    }

    /// Every GPU of the driver.
    ///
    /// # Errors
    /// The driver failed.
    pub fn gpus(&self) -> Result<Vec<Gpu>, Error> {
        (0..self.gpu_count()?).map(|index| self.gpu(index)).collect()
    }

    /// Its handle of a GPU.
    pub(super) fn device(&self, index: u32) -> Result<Device, Error> {
        let count = self.gpu_count()?;
        let ordinal = c_int::try_from(index).ok().filter(|_| index < count).ok_or(Error::NoGpu { index, count })?;
        let mut device = 0;
        // SAFETY: it writes a number; the ordinal is below the count.
        unsafe { self.api.cuDeviceGet(&raw mut device, ordinal) }?;
        Ok(device)
    }

    fn name(&self, device: Device) -> Result<String, Error> {
        let mut text = [0; 128];
        // SAFETY: it writes as many bytes as it is told, a zero among them.
        unsafe { self.api.cuDeviceGetName(text.as_mut_ptr(), 128, device) }?;
        Ok(string(&text))
    }

    /// `0000:65:00.0`; none where a GPU is on no PCI bus.
    fn bus_id(&self, device: Device) -> Result<Option<String>, Error> {
        let mut text = [0; 32];
        // SAFETY: as above.
        match unsafe { self.api.cuDeviceGetPCIBusId(text.as_mut_ptr(), 32, device) } {
            Ok(()) => Ok(Some(string(&text)).filter(|text| !text.is_empty())),
            Err(Error::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn memory_bytes(&self, device: Device) -> Result<u64, Error> {
        let mut bytes = 0;
        // SAFETY: it writes a number.
        unsafe { self.api.cuDeviceTotalMem_v2(&raw mut bytes, device) }?;
        Ok(bytes as u64)
    }

    /// An attribute; none where this driver does not know it.
    pub(super) fn attribute(&self, device: Device, attribute: Attribute) -> Result<Option<i32>, Error> {
        let mut value = 0;
        // SAFETY: it writes a number.
        match unsafe { self.api.cuDeviceGetAttribute(&raw mut value, attribute as c_int, device) } {
            Ok(()) => Ok(Some(value)),
            Err(Error::Refused { code: INVALID_VALUE, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn can_access_peer(&self, device: Device, peer: Device) -> Result<bool, Error> {
        let mut can = 0;
        // SAFETY: it writes a number.
        unsafe { self.api.cuDeviceCanAccessPeer(&raw mut can, device, peer) }?;
        Ok(can != 0)
    }
}

/// Up to the zero, printable.
fn string(text: &[c_char]) -> String {
    let bytes = text.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0);
    bytes.map(char::from).filter(|letter| !letter.is_control()).collect::<String>().trim().to_owned()
}
