package cluster

import (
	"slices"
	"strconv"

	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
)

// arguments are those of a component, by name. The last of several counts.
type arguments map[string]argument

// argument is the value of an argument, and where it is.
type argument struct {
	set   bool
	value string
	from  object.Value
}

// readArguments reads the arguments in a field of a part of the object: a map, or since v1beta4 a list.
func readArguments(o object.Object, part, field string) arguments {
	v, found := o.Value.Get(part).Get(field), arguments{}
	switch {
	case slices.Contains(versionsWithLists, o.APIVersion):
		for _, item := range v.Items() {
			value := item.Get("value")
			found[item.Get("name").Text()] = argument{true, value.Text(), value}
		}
	case v.IsList():
		v.Refuse("is a list, which this apiVersion does not have", "an object of names and values")
	default:
		for _, field := range v.Fields() {
			found[field.Name] = argument{true, field.Value.Text(), field.Value}
		}
	}
	return found
}

// number returns a prefix length from 1 to most.
func (a argument) number(most int) int {
	n, err := strconv.Atoi(a.value)
	if err != nil || n < 1 || n > most {
		a.from.Refuse("is not a prefix length", "a whole number from 1 to "+strconv.Itoa(most))
	}
	return n
}

// mustAgree refuses an argument that differs from the field that kubeadm makes it of.
func (a arguments) mustAgree(name string, field object.Value) {
	if got := a[name]; got.set && got.value != field.Text() {
		got.from.Refuse("differs from the field that kubeadm makes this argument of", "what "+field.Path()+" says")
	}
}
