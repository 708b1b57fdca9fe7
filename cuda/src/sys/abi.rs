//! Types and constants of cuda.h, under names of this crate.

use std::ffi::{c_int, c_uint, c_ulonglong};

use cudarc::driver::sys;

pub(super) use cudarc::driver::sys::{
    CUDA_EXTERNAL_MEMORY_BUFFER_DESC as ExternalBuffer, CUDA_EXTERNAL_MEMORY_HANDLE_DESC as ExternalHandle,
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC_st__bindgen_ty_1 as ExternalUnion, CUcontext, CUdevice as Device,
    CUdevice_attribute as Attribute, CUdeviceptr as Address, CUevent, CUexternalMemory,
    CUexternalMemoryHandleType as ExternalType, CUfunction, CUmodule, CUstream,
};

/// `CUresult` as a plain integer. cudarc declares an enum, for which a value that a newer driver adds would be undefined
/// behaviour.
pub(super) type Code = c_int;

pub(super) const SUCCESS: Code = sys::CUresult::CUDA_SUCCESS as Code;
pub(super) const INVALID_VALUE: Code = sys::CUresult::CUDA_ERROR_INVALID_VALUE as Code;
pub(super) const NOT_SUPPORTED: Code = sys::CUresult::CUDA_ERROR_NOT_SUPPORTED as Code;
pub(super) const NOT_READY: Code = sys::CUresult::CUDA_ERROR_NOT_READY as Code;
pub(super) const PEER_ACCESS_UNSUPPORTED: Code = sys::CUresult::CUDA_ERROR_PEER_ACCESS_UNSUPPORTED as Code;
pub(super) const PEER_ACCESS_ALREADY_ENABLED: Code = sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED as Code;

pub(super) const STREAM_NON_BLOCKING: c_uint = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint;
pub(super) const EVENT_DEFAULT: c_uint = sys::CUevent_flags::CU_EVENT_DEFAULT as c_uint;
pub(super) const HOST_REGISTER_DEVICE_MAP: c_uint = sys::CU_MEMHOSTREGISTER_DEVICEMAP;
pub(super) const HOST_REGISTER_IO_MEMORY: c_uint = sys::CU_MEMHOSTREGISTER_IOMEMORY;
pub(super) const RANGE_HANDLE_DMA_BUF_FD: c_uint =
    sys::CUmemRangeHandleType::CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD as c_uint;
pub(super) const RANGE_FLAG_PCIE: c_ulonglong =
    sys::CUmemRangeFlags_enum::CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE as c_ulonglong;
pub(super) const POINTER_ATTRIBUTE_SYNC_MEMOPS: c_uint =
    sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_SYNC_MEMOPS as c_uint;
