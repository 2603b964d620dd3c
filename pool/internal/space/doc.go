// Package space keeps which addresses of a pool are free, and by which rules one is chosen.
package space
