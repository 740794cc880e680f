var<immediate> p: Params;
