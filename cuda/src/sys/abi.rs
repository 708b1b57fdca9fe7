//! Numbers and structures of cuda.h, as far as we need them. Tests hold them against bindings generated from the header.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

/// `CUresult`. Newer drivers have more values than any header.
pub(super) type Code = c_int;
/// `CUdevice`.
pub(super) type Device = c_int;
/// `CUdeviceptr`.
pub(super) type Address = c_ulonglong;
/// `CUcontext`, `CUstream`, `CUevent`, `CUmodule`, `CUfunction`, `CUexternalMemory`.
pub(super) type Opaque = *mut c_void;

pub(super) const SUCCESS: Code = 0;
pub(super) const INVALID_VALUE: Code = 1;
pub(super) const NOT_SUPPORTED: Code = 801;
pub(super) const NOT_READY: Code = 600;
pub(super) const PEER_ACCESS_ALREADY_ENABLED: Code = 704;

pub(super) const STREAM_NON_BLOCKING: c_uint = 1;
pub(super) const EVENT_DEFAULT: c_uint = 0;
pub(super) const HOST_REGISTER_DEVICE_MAP: c_uint = 2;
pub(super) const HOST_REGISTER_IO_MEMORY: c_uint = 4;
pub(super) const RANGE_HANDLE_DMA_BUF_FD: c_uint = 1;
pub(super) const RANGE_FLAG_PCIE: c_ulonglong = 1;
pub(super) const EXTERNAL_OPAQUE_FD: c_uint = 1;
pub(super) const EXTERNAL_DMA_BUF_FD: c_uint = 9;
pub(super) const POINTER_ATTRIBUTE_SYNC_MEMOPS: c_uint = 6;

/// What can be asked of a GPU: `CUdevice_attribute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[expect(missing_docs, reason = "they are the driver's own names")]
pub enum Attribute {
    MultiprocessorCount = 16,
    GpuDirectRdmaSupported = 116,
    GpuDirectRdmaWritesOrdering = 118,
    DmaBufSupported = 124,
}

/// `CUDA_EXTERNAL_MEMORY_HANDLE_DESC`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct ExternalHandle {
    pub(super) kind: c_uint,
    pub(super) handle: ExternalUnion,
    pub(super) size: c_ulonglong,
    pub(super) flags: c_uint,
    pub(super) reserved: [c_uint; 16],
}

/// Of the union we use the file descriptor; the other members are as long as two pointers.
#[derive(Debug)]
#[repr(C, align(8))]
pub(super) struct ExternalUnion {
    pub(super) fd: c_int,
    pub(super) unused: [c_int; 3],
}

/// `CUDA_EXTERNAL_MEMORY_BUFFER_DESC`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct ExternalBuffer {
    pub(super) offset: c_ulonglong,
    pub(super) size: c_ulonglong,
    pub(super) flags: c_uint,
    pub(super) reserved: [c_uint; 16],
}

const _: () = assert!(size_of::<ExternalHandle>() == 104 && align_of::<ExternalHandle>() == 8);
const _: () = assert!(size_of::<ExternalBuffer>() == 88 && align_of::<ExternalBuffer>() == 8);

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use cudarc::driver::sys;

    use super::*;

    #[test]
    fn structures_are_laid_out_as_in_the_header() {
        type Theirs = sys::CUDA_EXTERNAL_MEMORY_HANDLE_DESC_st;
        assert_eq!(size_of::<ExternalHandle>(), size_of::<Theirs>());
        assert_eq!(offset_of!(ExternalHandle, kind), offset_of!(Theirs, type_));
        assert_eq!(offset_of!(ExternalHandle, handle), offset_of!(Theirs, handle));
        assert_eq!(offset_of!(ExternalHandle, size), offset_of!(Theirs, size));
        assert_eq!(offset_of!(ExternalHandle, flags), offset_of!(Theirs, flags));
        type Buffer = sys::CUDA_EXTERNAL_MEMORY_BUFFER_DESC_st;
        assert_eq!(size_of::<ExternalBuffer>(), size_of::<Buffer>());
        assert_eq!(offset_of!(ExternalBuffer, offset), offset_of!(Buffer, offset));
        assert_eq!(offset_of!(ExternalBuffer, size), offset_of!(Buffer, size));
        assert_eq!(offset_of!(ExternalBuffer, flags), offset_of!(Buffer, flags));
    }

    #[test]
    fn numbers_are_those_of_the_header() {
        use sys::CUdevice_attribute_enum as Theirs;
        for (ours, theirs) in [
            (Attribute::MultiprocessorCount, Theirs::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            (Attribute::GpuDirectRdmaSupported, Theirs::CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED),
            (Attribute::GpuDirectRdmaWritesOrdering, Theirs::CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING),
            (Attribute::DmaBufSupported, Theirs::CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED),
        ] {
            assert_eq!(ours as u32, theirs as u32, "{theirs:?}");
        }
        use sys::CUexternalMemoryHandleType_enum as External;
        assert_eq!(EXTERNAL_OPAQUE_FD, External::CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD as u32);
        assert_eq!(EXTERNAL_DMA_BUF_FD, External::CU_EXTERNAL_MEMORY_HANDLE_TYPE_DMABUF_FD as u32);
        assert_eq!(RANGE_HANDLE_DMA_BUF_FD, sys::CUmemRangeHandleType_enum::CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD as u32);
        let pcie = sys::CUmemRangeFlags_enum::CU_MEM_RANGE_FLAG_DMA_BUF_MAPPING_TYPE_PCIE;
        assert_eq!(RANGE_FLAG_PCIE, pcie as u64);
        assert_eq!(STREAM_NON_BLOCKING, sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32);
        assert_eq!(EVENT_DEFAULT, sys::CUevent_flags_enum::CU_EVENT_DEFAULT as u32);
        let sync = sys::CUpointer_attribute_enum::CU_POINTER_ATTRIBUTE_SYNC_MEMOPS;
        assert_eq!(POINTER_ATTRIBUTE_SYNC_MEMOPS, sync as u32);
        assert_eq!(HOST_REGISTER_DEVICE_MAP, sys::CU_MEMHOSTREGISTER_DEVICEMAP);
        assert_eq!(HOST_REGISTER_IO_MEMORY, sys::CU_MEMHOSTREGISTER_IOMEMORY);
        for (ours, theirs) in [
            (SUCCESS, sys::CUresult::CUDA_SUCCESS),
            (INVALID_VALUE, sys::CUresult::CUDA_ERROR_INVALID_VALUE),
            (NOT_SUPPORTED, sys::CUresult::CUDA_ERROR_NOT_SUPPORTED),
            (NOT_READY, sys::CUresult::CUDA_ERROR_NOT_READY),
            (PEER_ACCESS_ALREADY_ENABLED, sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED),
        ] {
            assert_eq!(ours, theirs as i32, "{theirs:?}");
        }
    }
}
