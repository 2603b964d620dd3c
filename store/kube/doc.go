// Package kube keeps the records of package store in custom resources of the Kubernetes API.
package kube
