// Package cni is the folder of a CNI IPAM plugin and its reconciler. Its tests run them as CNI and Kubernetes do.
//
// The programs are in cmd. README.md in this folder is for operators.
package cni
