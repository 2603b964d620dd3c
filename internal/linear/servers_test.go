package linear_test

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"k8s.io/klog/v2"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/kube/kubetest/apiserver"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// TestMain ends the servers that tests have started.
func TestMain(m *testing.M) { servertest.Main(m, nil) }

func TestEtcd(t *testing.T) {
	server := apiserver.StartEtcd(t, t.TempDir())
	t.Cleanup(server.Close)
	requireLinearizable(t, 30, func(ctx context.Context) (store.Store, error) {
		return etcd.Open(ctx, clientv3.Config{
			Endpoints: []string{server.Config().ListenClientUrls[0].Host}, DialTimeout: time.Minute, Logger: zap.NewNop(),
		}, nil)
	})
}

func TestKube(t *testing.T) {
	klog.SetLogger(logr.Discard())
	server := &apiserver.Server{Dir: t.TempDir(), Users: []string{"writer"}}
	server.Run(t, kube.CRDs())
	t.Cleanup(server.Close)
	requireLinearizable(t, 30, func(ctx context.Context) (store.Store, error) {
		return kube.Open(ctx, server.Config("writer"), &kube.Options{Namespace: "team"})
	})
}

func TestPostgres(t *testing.T) {
	server := start(t, servertest.Postgres(func(ctx context.Context, s *servertest.Server) error {
		return ping(openPostgres(ctx, s))
	}))
	requireLinearizable(t, 30, func(ctx context.Context) (store.Store, error) { return openPostgres(ctx, server) })
}

func openPostgres(ctx context.Context, s *servertest.Server) (store.Store, error) {
	return postgres.Open(ctx, "postgres://postgres@"+s.Addr+"/postgres?sslmode=disable&connect_timeout=20", nil)
}

func TestMySQL(t *testing.T) {
	server := start(t, servertest.MariaDB(func(ctx context.Context, s *servertest.Server) error {
		return ping(openMySQL(ctx, s))
	}))
	requireLinearizable(t, 30, func(ctx context.Context) (store.Store, error) { return openMySQL(ctx, server) })
}

func openMySQL(ctx context.Context, s *servertest.Server) (store.Store, error) {
	config := driver.NewConfig()
	config.User, config.Net, config.Addr, config.Timeout = servertest.MariaDBUser, "tcp", s.Addr, 20*time.Second
	config.Logger = &driver.NopLogger{}
	return mysql.Open(ctx, config.FormatDSN(), nil)
}

// start starts a server. It skips the test if none is installed, unless this is CI.
func start(t *testing.T, program servertest.Program) *servertest.Server {
	t.Helper()
	server, err := servertest.New(program)
	servertest.Require(t, err)
	require.NoError(t, server.Start())
	return server
}

// ping closes a store that could be opened.
func ping(s store.Store, err error) error {
	if err != nil {
		return err
	}
	return s.Close()
}
