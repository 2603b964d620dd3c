// Package view draws pools.
package view
