module github.com/yufu-auth/yufu/pkg/adminclient

go 1.23

require github.com/google/uuid v1.6.0
