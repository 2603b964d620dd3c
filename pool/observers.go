package pool

import (
	"context"
	"slices"
)

// Observers returns an observer that tells several: for metrics, traces and alarms of one handle. Each Begin is told in
// their order, and each gets the context that the one before it returned. Each End is told in the reverse order, and
// each gets the context that its own Begin returned. nil observers are left out. Cost: two heap allocations for each
// Begin.
func Observers(observers ...Observer) Observer {
	return several(slices.DeleteFunc(slices.Clone(observers), func(o Observer) bool { return o == nil }))
}

// several are observers of the same.
type several []Observer

// contextsOf is the key of the contexts that the Begin methods of several observers returned, in their order.
type contextsOf struct{}

func (s several) begin(
	ctx context.Context, begin func(Observer, context.Context) context.Context,
) context.Context {
	own := make([]context.Context, len(s))
	for i, o := range s {
		ctx = begin(o, ctx)
		own[i] = ctx
	}
	return context.WithValue(ctx, contextsOf{}, own)
}

func (s several) end(ctx context.Context, end func(Observer, context.Context)) {
	own, _ := ctx.Value(contextsOf{}).([]context.Context)
	for i, o := range slices.Backward(s) {
		end(o, own[i])
	}
}

// BeginCall implements [Observer].
func (s several) BeginCall(ctx context.Context, call Call) context.Context {
	return s.begin(ctx, func(o Observer, ctx context.Context) context.Context { return o.BeginCall(ctx, call) })
}

// EndCall implements [Observer].
func (s several) EndCall(ctx context.Context, call Call) {
	s.end(ctx, func(o Observer, ctx context.Context) { o.EndCall(ctx, call) })
}

// BeginCommit implements [Observer].
func (s several) BeginCommit(ctx context.Context, commit Commit) context.Context {
	return s.begin(ctx, func(o Observer, ctx context.Context) context.Context { return o.BeginCommit(ctx, commit) })
}

// EndCommit implements [Observer].
func (s several) EndCommit(ctx context.Context, commit Commit) {
	s.end(ctx, func(o Observer, ctx context.Context) { o.EndCommit(ctx, commit) })
}
