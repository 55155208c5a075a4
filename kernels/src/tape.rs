//! How an op enters the graph, and a backward that adds gradients up in place.
//!
//! Every op is recorded twice. As a candle `CustomOp`, so that `loss.backward()` works; and in a registry of this
//! thread, so that [`backward`] can walk the same graph itself. The difference is memory traffic: candle adds each
//! contribution to a gradient in three passes over fresh memory (zeros, the contribution, their sum), which costs a
//! third of a LoRA step; here the first contribution is the gradient, a product adds to it as it stores its result,
//! and nothing is kept but gradients of `Var`s.
//!
//! Between ops run *handles*: tensors with the shape of a result but without its numbers. The graph is made of handles,
//! the result itself hangs on the last one, and an op keeps alive what its own backward reads and no more. So the
//! numbers of a result go when its last reader lets go of it, not when the graph does.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::{Arc, Mutex, Weak};

use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Storage,
    StorageRef, Tensor, TensorId, bail,
};

use crate::elementwise::add_assign;
use crate::simd::Float;

/// The backward of one applied op, with what it kept for it.
pub(crate) trait Node<T>: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    /// Adds the gradient of every input that `into` wants, given the gradient of the output.
    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()>;
}

/// The gradients of an op's inputs, by position.
pub(crate) struct Gradients<T> {
    slots: Vec<Slot<T>>,
}

struct Slot<T> {
    wanted: bool,
    len: usize,
    so_far: Option<Arc<Vec<T>>>,
}

impl<T: Recordable> Gradients<T> {
    /// Number of inputs.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether input `i` is trained or leads to something trained.
    pub(crate) fn wants(&self, i: usize) -> bool {
        self.slots[i].wanted
    }

    /// Adds a contribution.
    pub(crate) fn add(&mut self, i: usize, grad: Vec<T>) {
        self.add_shared(i, Arc::new(grad));
    }

    /// Adds a contribution that others hold as well.
    pub(crate) fn add_shared(&mut self, i: usize, grad: Arc<Vec<T>>) {
        let slot = &mut self.slots[i];
        debug_assert_eq!(slot.len, grad.len());
        slot.so_far = Some(match slot.so_far.take() {
            None => grad,
            Some(so_far) => sum(so_far, grad),
        });
    }

    /// Lets `f` write the gradient of input `i`: it gets the sum so far, if any, to add to, and a place for the result,
    /// which may be the same memory.
    pub(crate) fn write(&mut self, i: usize, f: impl FnOnce(Option<*const T>, *mut T)) {
        let slot = &mut self.slots[i];
        let mut so_far = slot.so_far.take();
        let grad = match so_far.as_mut().map(Arc::get_mut) {
            Some(Some(own)) => {
                let ptr = own.as_mut_ptr();
                f(Some(ptr), ptr);
                so_far
            }
            Some(None) | None => {
                let mut out = crate::memory::Output::new(slot.len);
                f(so_far.as_ref().map(|s| s.as_ptr()), out.ptr().0);
                // SAFETY: `f` writes all of the result, that is its contract.
                Some(Arc::new(unsafe { out.finish() }))
            }
        };
        slot.so_far = grad;
    }
}

/// `a + b`, in whichever of the two nobody else holds.
fn sum<T: Recordable>(a: Arc<Vec<T>>, b: Arc<Vec<T>>) -> Arc<Vec<T>> {
    let (mut a, mut b) = if Arc::strong_count(&a) == 1 {
        (a, b)
    } else {
        (b, a)
    };
    if Arc::get_mut(&mut a).is_none() {
        std::mem::swap(&mut a, &mut b);
    }
    let target = Arc::make_mut(&mut a);
    add_assign(target, &b);
    a
}

/// One applied op: the handles of its tracked inputs (`None` for the others) and its node.
pub(crate) struct Entry<T> {
    inputs: Vec<Option<Tensor>>,
    node: Box<dyn Node<T>>,
}

impl<T: Recordable> Entry<T> {
    fn backward(
        &self,
        grad: &Arc<Vec<T>>,
        mut so_far: impl FnMut(&Tensor) -> Option<Arc<Vec<T>>>,
    ) -> Result<Vec<Option<Arc<Vec<T>>>>> {
        let slot = |input: &Option<Tensor>| match input {
            Some(input) => Slot {
                wanted: true,
                len: input.elem_count(),
                so_far: so_far(input),
            },
            None => Slot {
                wanted: false,
                len: 0,
                so_far: None,
            },
        };
        let mut gradients = Gradients {
            slots: self.inputs.iter().map(slot).collect(),
        };
        self.node.backward(grad, &mut gradients)?;
        Ok(gradients
            .slots
            .into_iter()
            .map(|slot| slot.so_far)
            .collect())
    }
}

/// The ops applied in this thread whose results are alive.
pub(crate) struct Registry<T> {
    /// By the handle of the result.
    entries: HashMap<TensorId, Weak<Entry<T>>>,
    /// The handle of each result.
    handles: HashMap<TensorId, Weak<Tensor>>,
    sweep_at: usize,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            handles: HashMap::new(),
            sweep_at: 1024,
        }
    }
}

impl<T> Registry<T> {
    fn insert(&mut self, result: &Tensor, handle: &Arc<Tensor>, entry: &Arc<Entry<T>>) {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, entry| entry.strong_count() > 0);
            self.handles.retain(|_, handle| handle.strong_count() > 0);
            self.sweep_at = (2 * self.entries.len()).max(1024);
        }
        self.entries.insert(handle.id(), Arc::downgrade(entry));
        self.handles.insert(result.id(), Arc::downgrade(handle));
    }

    /// The handle of a result of one of our ops; any other tensor is its own.
    fn handle(&self, tensor: &Tensor) -> Tensor {
        let handle = self.handles.get(&tensor.id()).and_then(Weak::upgrade);
        handle.map_or_else(|| tensor.clone(), |handle| (*handle).clone())
    }

    fn get(&self, id: TensorId) -> Option<Arc<Entry<T>>> {
        self.entries.get(&id)?.upgrade()
    }
}

/// A float whose ops are recorded.
pub(crate) trait Recordable: Float {
    /// This thread's record of the ops applied with this dtype.
    fn with_registry<R>(f: impl FnOnce(&mut Registry<Self>) -> R) -> R;
}

macro_rules! recordable {
    ($($float:ty),*) => {$(
        impl Recordable for $float {
            fn with_registry<R>(f: impl FnOnce(&mut Registry<$float>) -> R) -> R {
                thread_local!(static REGISTRY: RefCell<Registry<$float>> = RefCell::default());
                REGISTRY.with_borrow_mut(f)
            }
        }
    )*};
}
recordable!(f32, f64);

/// Whether any of these needs a backward.
pub(crate) fn tracked(inputs: &[&Tensor]) -> bool {
    !crate::gradients::off() && inputs.iter().any(|input| input.track_op())
}

/// The result of an op as a tensor, recorded with `node` if any of the inputs is tracked.
pub(crate) fn record<T: Recordable>(
    inputs: &[&Tensor],
    data: Vec<T>,
    shape: impl Into<Shape>,
    node: impl Node<T>,
) -> Result<Tensor> {
    let shape = shape.into();
    if !tracked(inputs) {
        return Tensor::from_vec(data, shape, &Device::Cpu);
    }
    let handles: Vec<Option<Tensor>> = T::with_registry(|registry| {
        let handle = |input: &&Tensor| input.track_op().then(|| registry.handle(input));
        inputs.iter().map(handle).collect()
    });
    let entry = Arc::new(Entry {
        inputs: handles,
        node: Box::new(node),
    });
    let arguments: Vec<&Tensor> = entry.inputs.iter().flatten().collect();
    // candle's ops have three arguments at most: any more are put into one.
    let (arguments, packed) = match arguments[..] {
        [a, b, c, ref rest @ ..] if !rest.is_empty() => {
            let [d] = rest[..] else {
                bail!("{}: more than four tracked inputs", entry.node.name())
            };
            (vec![a, b], Some(c.apply_op2(d, Join)?))
        }
        _ => (arguments, None),
    };
    let op = Recorded {
        entry: entry.clone(),
        shape: shape.clone(),
    };
    let handle = match (&arguments[..], &packed) {
        (&[a], _) => a.apply_op1(op),
        (&[a, b], None) => a.apply_op2(b, op),
        (&[a, b], Some(packed)) => a.apply_op3(b, packed, op),
        (&[a, b, c], _) => a.apply_op3(b, c, op),
        _ => bail!("{}: no tracked input", entry.node.name()),
    }?;
    let handle = Arc::new(handle);
    let result = handle.apply_op1(Numbers {
        handle: handle.clone(),
        result: Mutex::new(Some((T::to_cpu_storage_owned(data), shape))),
    })?;
    T::with_registry(|registry| registry.insert(&result, &handle, &entry));
    Ok(result)
}

/// The numbers of a result on its handle.
struct Numbers {
    handle: Arc<Tensor>,
    result: Mutex<Option<(CpuStorage, Shape)>>,
}

impl CustomOp1 for Numbers {
    fn name(&self) -> &'static str {
        "numbers"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.result.lock().ok().and_then(|mut result| result.take()) {
            Some(result) => Ok(result),
            None => bail!("a result of {:?} was taken twice", self.handle.shape()),
        }
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}

/// An op as candle sees it: from handles to a handle; the backward is the node's.
struct Recorded<T> {
    entry: Arc<Entry<T>>,
    shape: Shape,
}

impl<T: Recordable> Recorded<T> {
    fn result(&self) -> Result<(CpuStorage, Shape)> {
        Ok((T::to_cpu_storage_owned(Vec::new()), self.shape.clone()))
    }

    /// One gradient per tracked input.
    fn gradients(&self, grad: &Tensor) -> Result<Vec<Tensor>> {
        let grad = Arc::new(view::<T>(&grad.contiguous()?)?.to_vec());
        let gradients = self.entry.backward(&grad, |_| None)?;
        let tracked = self
            .entry
            .inputs
            .iter()
            .zip(gradients)
            .filter_map(|(input, grad)| Some((input.as_ref()?, grad)));
        tracked
            .map(|(input, grad)| to_tensor(grad, input))
            .collect()
    }
}

/// A gradient as a tensor of the shape of its input; zeros if there was no contribution.
fn to_tensor<T: Recordable>(grad: Option<Arc<Vec<T>>>, input: &Tensor) -> Result<Tensor> {
    match grad {
        Some(grad) => {
            let grad = Arc::try_unwrap(grad).unwrap_or_else(|shared| shared.to_vec());
            Tensor::from_vec(grad, input.shape(), &Device::Cpu)
        }
        None => input.zeros_like(),
    }
}

impl<T: Recordable> CustomOp1 for Recorded<T> {
    fn name(&self) -> &'static str {
        self.entry.node.name()
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.result()
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.gradients(grad)?.into_iter().next())
    }
}

impl<T: Recordable> CustomOp2 for Recorded<T> {
    fn name(&self) -> &'static str {
        self.entry.node.name()
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.result()
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.gradients(grad)?.into_iter();
        Ok((gradients.next(), gradients.next()))
    }
}

impl<T: Recordable> CustomOp3 for Recorded<T> {
    fn name(&self) -> &'static str {
        self.entry.node.name()
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.result()
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.gradients(grad)?;
        if gradients.len() == 4 {
            let last = [
                gradients.remove(2).flatten_all()?,
                gradients.remove(2).flatten_all()?,
            ];
            gradients.push(Tensor::cat(&last, 0)?);
        }
        let mut gradients = gradients.into_iter();
        Ok((gradients.next(), gradients.next(), gradients.next()))
    }
}

/// Two tensors made one argument: only the gradient passes through, the values stay where they are.
struct Join;

impl CustomOp2 for Join {
    fn name(&self) -> &'static str {
        "join"
    }
    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        at: &Layout,
        _: &CpuStorage,
        b_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let len = at.shape().elem_count() + b_at.shape().elem_count();
        let nothing = match a {
            CpuStorage::F64(_) => CpuStorage::F64(Vec::new()),
            _ => CpuStorage::F32(Vec::new()),
        };
        Ok((nothing, len.into()))
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (a_len, b_len) = (a.elem_count(), b.elem_count());
        let a_grad = grad.narrow(0, 0, a_len)?.reshape(a.shape())?;
        let b_grad = grad.narrow(0, a_len, b_len)?.reshape(b.shape())?;
        Ok((Some(a_grad), Some(b_grad)))
    }
}

/// The gradients of every `Var` that `loss` (a scalar) depends on: what `loss.backward()` gives, faster and in less
/// memory, and without entries for anything else.
///
/// If the graph holds an op that is not of this crate (or was applied in another thread), or if the reference path
/// was taken, candle's own backward runs instead; [`is_recorded`] tells.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let gradients = match loss.dtype() {
        DType::F32 => own_backward::<f32>(loss)?,
        DType::F64 => own_backward::<f64>(loss)?,
        _ => None,
    };
    match gradients {
        Some(gradients) => Ok(gradients),
        None => loss.backward(),
    }
}

/// Whether all ops between `loss` and its `Var`s are of this crate, so that [`backward`] walks them itself.
pub fn is_recorded(loss: &Tensor) -> bool {
    match loss.dtype() {
        DType::F32 => order::<f32>(loss).is_some(),
        DType::F64 => order::<f64>(loss).is_some(),
        _ => false,
    }
}

/// The ops that lead to `loss`, each after those that use its result; `None` if one is not ours.
fn order<T: Recordable>(loss: &Tensor) -> Option<Vec<(Tensor, Arc<Entry<T>>)>> {
    let mut sorted = Vec::new();
    let mut seen = HashSet::new();
    // Depth first without recursion: a tensor comes up twice, to visit its inputs and then to be put down.
    let loss = T::with_registry(|registry| registry.handle(loss));
    let mut stack: Vec<(Tensor, Option<Arc<Entry<T>>>)> = vec![(loss, None)];
    while let Some((tensor, entry)) = stack.pop() {
        if let Some(entry) = entry {
            sorted.push((tensor, entry));
            continue;
        }
        if tensor.is_variable() || !seen.insert(tensor.id()) {
            continue;
        }
        let entry = T::with_registry(|registry| registry.get(tensor.id()))?;
        stack.push((tensor, Some(entry.clone())));
        stack.extend(
            entry
                .inputs
                .iter()
                .flatten()
                .map(|input| (input.clone(), None)),
        );
    }
    sorted.reverse();
    Some(sorted)
}

fn own_backward<T: Recordable>(loss: &Tensor) -> Result<Option<GradStore>> {
    if loss.elem_count() != 1 || !loss.track_op() {
        return Ok(None);
    }
    let Some(order) = order::<T>(loss) else {
        return Ok(None);
    };
    let loss = T::with_registry(|registry| registry.handle(loss));
    let mut gradients = HashMap::from([(loss.id(), Arc::new(vec![T::from_f64(1.0)]))]);
    let mut variables = Vec::new();
    for (tensor, entry) in order {
        let Some(grad) = gradients.remove(&tensor.id()) else {
            continue;
        };
        let new = entry.backward(&grad, |input| gradients.remove(&input.id()))?;
        drop(grad);
        for (input, grad) in entry.inputs.iter().zip(new) {
            let (Some(input), Some(grad)) = (input, grad) else {
                continue;
            };
            // The same tensor may be an input twice.
            let grad = match gradients.remove(&input.id()) {
                Some(other) => sum(other, grad),
                None => grad,
            };
            gradients.insert(input.id(), grad);
            if input.is_variable() {
                variables.push(input.clone());
            }
        }
    }
    let mut store = GradStore::default();
    for variable in variables {
        if let Some(grad) = gradients.remove(&variable.id()) {
            store.insert(&variable, to_tensor(Some(grad), &variable)?);
        }
    }
    Ok(Some(store))
}

/// The numbers of a contiguous tensor on the CPU.
pub(crate) struct View<'a, T> {
    data: *const T,
    len: usize,
    _guard: StorageRef<'a>,
}

/// Reads `tensor`, which must be contiguous and hold `T`.
pub(crate) fn view<T: Recordable>(tensor: &Tensor) -> Result<View<'_, T>> {
    let (guard, layout) = tensor.storage_and_layout();
    let (data, len) = match (&*guard, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((start, end))) => {
            let data = &T::cpu_storage_as_slice(storage)?[start..end];
            (data.as_ptr(), data.len())
        }
        _ => bail!(
            "a contiguous tensor on the CPU is needed, got {:?}",
            layout.shape()
        ),
    };
    Ok(View {
        data,
        len,
        _guard: guard,
    })
}

impl<T> Deref for View<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the guard keeps the storage, and keeps others from writing to it.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}
