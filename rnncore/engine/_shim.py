from types import SimpleNamespace

import numpy as np


def wrap(old):
    ns = SimpleNamespace(**{k: getattr(old, k) for k in dir(old) if not k.startswith("__")})
    ns.__file__ = old.__file__
    ns.most_layers = 64; ns.most_gates = 8
    item = old.lanes and {True:4}.get("f32" in old.__file__, 8)
    D = {"lstm": ("ifgo","ifgo","hc",(),()), "gru": ("rzn","nrz ","h",("bias_hn",),(2,))}
    class Cell:
        def __init__(self, name):
            self.name=name; self.gates,self.places,self.states,self.own,self.starts = D.get(name, ("h"," ","h",(),()))
            self.old = name
    ns.Cell=Cell
    ns.cell = lambda name: Cell(name)
    class Layer:
        def __init__(self, cell, I, H, rev):
            self.cell=cell; self.input_size=I; self.hidden_size=H; self.reverse=rev
            old_cell = getattr(cell, "old", cell)
            self.blank = old.Task(old_cell, I, H, rev); self.old_cell=old_cell
            s = self.blank.sizes
            self.z_size=s["z"]; self.table_size=s["table"]; self.state_size=s["state"]; self.block=s["block"]; self.blocks=s["blocks"]; self.places=s["places"]
            self.packed_bytes = item*(self.table_size*(I+H+2))
        def packed_back_bytes(self, parts, stride):
            L=old.lanes; columns=(parts-1)*stride+self.input_size//parts
            return item*self.table_size*(-(-columns//L)*L + -(-self.hidden_size//L)*L)
        def forward_sizes(self, s, b, t): return old.forward_sizes(self.blank, s, b, t)
        def backward_sizes(self, rows): return old.backward_sizes(self.blank, rows)
        def plan(self, s, b, tok, t): return old.plan(self.blank, s, b, tok, t)
        def splits(self, t): return old.splits(self.blank, t)
    ns.Layer=Layer
    class Weights:
        def __init__(self, layer, buffer, W_hx, W_hh, bias, own, threads):
            T,I,H=layer.table_size,layer.input_size,layer.hidden_size
            a=buffer[:T*I]; b=buffer[T*I:T*(I+H)]; c=buffer[T*(I+H):T*(I+H+1)]; d=None; bh=None
            if own and own[0] is not None:
                bh=np.zeros(len(layer.cell.gates)*H, buffer.dtype); bh[-H:]=own[0]; d=buffer[T*(I+H+1):T*(I+H+2)]
            self.arrays=(a,b,c,d)
            old.pack(layer.blank, W_hx, W_hh, bias, bh, *self.arrays, threads)
    ns.Weights=Weights
    class WeightsBack:
        def __init__(self, layer, buffer, W_hx, W_hh, parts, part_stride, threads):
            L=old.lanes; columns=(parts-1)*part_stride+layer.input_size//parts
            n=layer.table_size*(-(-columns//L)*L)
            self.arrays=(buffer[:n], buffer[n:n+layer.table_size*(-(-layer.hidden_size//L)*L)])
            old.pack_back(layer.blank, W_hx, W_hh, parts, part_stride, *self.arrays, threads)
    ns.WeightsBack=WeightsBack
    class Task(old.Task):
        def __new__(cls, layer): return old.Task.__new__(cls, layer.old_cell, layer.input_size, layer.hidden_size, layer.reverse)
        def __init__(self, layer):
            super().__init__(layer.old_cell, layer.input_size, layer.hidden_size, layer.reverse); self.layer=layer
        def set_weights(self, w): super().set_weights(*w.arrays)
        def set_weights_back(self, w): super().set_weights_back(*w.arrays)
        def set_batch(self, offset, running, training, z, h, c, scratch, chunk):
            super().set_batch(offset, running, training, z, h, c, scratch, chunk)
        def set_gradients(self, dy, first, stride, dy_rows, dW_hx, dW_hh, db, down, adds):
            full=None
            if down is not None:
                H=self.layer.hidden_size
                self.pending=(full:=np.zeros(len(self.layer.cell.gates)*H, down.dtype), down)
            else: self.pending=None
            super().set_gradients(dy, first, stride, dy_rows, dW_hx, dW_hh, db, full, adds)
        def done(self):
            if self.pending:
                full, down=self.pending; H=self.layer.hidden_size
                down+=full[-H:]
                self.pending=None
    ns.Task=Task
    def backward(tasks, threads):
        old.backward(tasks, threads)
        for t in tasks: t.done()
    def backward_wavefront(tasks, threads):
        old.backward_wavefront(tasks, threads)
        for t in tasks: t.done()
    ns.backward=backward; ns.backward_wavefront=backward_wavefront
    ns.backward_chunk=lambda steps, rows: max(1, old.chunk_rows*steps//max(1,rows))
    ns.one_hot_table=lambda layer, table, W, weights, tokens, threads: old.one_hot_table(layer.blank, table, W, weights.arrays[2], tokens)
    ns.one_hot_gradient=lambda layer, dt, dW, tokens, threads: old.one_hot_gradient(layer.blank, dt, dW, tokens)
    ns.table_forward=lambda layer, table, e, n, w, t: old.table_forward(layer.blank, table, e, n, w.arrays[0], w.arrays[2], t)
    ns.table_backward=lambda layer, dt, e, n, w, dE, dW, dz, xp, t: old.table_backward(layer.blank, dt, e, n, w.arrays[0], dE, dW, dz, xp, t)
    class Linear:
        def __init__(self, i, o):
            self.i, self.o=i,o; s=old.linear_sizes(i,o); self.row_size=s["y"]; self.packed_bytes=item*(s["W"]+s["y"])
        def packed_back_bytes(self, parts, stride): return item*old.linear_sizes(self.i,self.o)["W_back"]
        def backward_sizes(self, rows):
            s=old.linear_sizes(self.i,self.o,rows); return {"dy_columns": s["dy_columns"], "x_panels": s["x_panels"]}
    ns.Linear=Linear
    class LinearWeights:
        def __init__(self, linear, buffer, W, b, threads):
            s=old.linear_sizes(linear.i,linear.o); self.linear=linear
            self.arrays=(buffer[:s["W"]], buffer[s["W"]:s["W"]+s["y"]])
            old.linear_pack(W, b, *self.arrays, None)
        def apply(self, x): return NotImplemented
    class LinearWeightsBack:
        def __init__(self, linear, buffer, W, parts, part_stride, threads):
            s=old.linear_sizes(linear.i,linear.o); self.a=buffer[:s["W_back"]]
            old.linear_pack(W, None, np.empty(s["W"],W.dtype), np.empty(s["y"],W.dtype), self.a)
    ns.LinearWeights=LinearWeights; ns.LinearWeightsBack=LinearWeightsBack
    def dense(x, first, stride, parts, ps, rows, depth):
        v=np.lib.stride_tricks.as_strided(x[first:], (rows, parts, depth//parts), (stride*x.itemsize, ps*x.itemsize, x.itemsize))
        return np.ascontiguousarray(v).reshape(-1)
    def linear_forward(w, y, x, first, stride, parts, ps, rows, threads):
        if parts>1: x=dense(x,first,stride,parts,ps,rows,w.linear.i); first, stride=0,w.linear.i
        old.linear_forward(y, x, first, stride, rows, w.linear.i, w.linear.o, *w.arrays, threads)
    def linear_backward(linear, back, dy, x, first, stride, parts, ps, rows, dx, dx_first, dx_stride, dW, db, adds, dyc, xp, threads):
        tmp=dx
        if parts>1:
            x=dense(x,first,stride,parts,ps,rows,linear.i); first, stride=0,linear.i
            if dx is not None: tmp=np.empty((rows, linear.i), dx.dtype)
        elif dx is not None: dx[:, linear.i:]=0
        old.linear_backward(dy, x, first, stride, rows, linear.i, linear.o, None if back is None else back.a, tmp, 0 if tmp is None else tmp.shape[1], dW, db, adds, dyc, xp, threads)
        if parts>1 and dx is not None:
            dx[...]=0
            for p in range(parts): dx[:, p*ps:p*ps+linear.i//parts]=tmp.reshape(rows,parts,-1)[:,p]
    ns.linear_forward=linear_forward; ns.linear_backward=linear_backward
    return ns
