module prove

go 1.19
