module inferscope.test/programs

go 1.17
